"""Studies of Optuna over the values of params.yaml, judged by inner validation only; killed workers lose nothing."""
