"""What MLflow adds to the training of one fold: a run with parameters, 15 epochs of curves and some files."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measuring import ROOT, repeated
from benchmarks.registry import Benchmark, Measured, NotHereError, register

EPOCHS, FOLD_SECONDS = 15, 30.0
"""A fold of the real cohort trains for about half a minute."""


def _fold() -> Measured:
    from dml import config
    from dml.ops.tracking import fold_run

    params = config.load(ROOT / "params.yaml")
    if not (ROOT / "data" / params.cohort / "splits.parquet").exists():
        raise NotHereError("the runs are keyed by data that are not here: dvc repro first")
    rng = np.random.default_rng(0)
    names = ["learning_rate", "train_task", "conflicts", "cosine", "validation_loss", "best"]
    history = pd.DataFrame(rng.normal(size=(EPOCHS, len(names))), columns=names).assign(epoch=range(EPOCHS))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        file = Path(folder) / "history.csv"
        history.to_csv(file)

        def track() -> None:
            with fold_run(params, "survival", "teacher", 0) as run:
                run.log_epochs(history)
                run.log_metrics({"c_index": 0.8})
                run.log_artifacts(file)

        found = repeated(track, repeats=5, warm=1)
    return Measured(found.wall, found.cpu, {"% of a 30 s fold": 100 * found.cpu / FOLD_SECONDS})


register(Benchmark("MLflow, one fold", "9 commands", _fold, threads=1))
