"""Studies of Optuna over the values of params.yaml, scored by inner validation only; killed workers lose nothing."""
