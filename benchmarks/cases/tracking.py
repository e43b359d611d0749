"""Overhead of tracking: MLflow for one fold, Optuna and MLflow for one trial."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measurement import ROOT, time_repeats
from benchmarks.registry import Benchmark, Measurement, SkipBenchmark, register

EPOCHS, FOLD_SECONDS = 15, 30.0
"""A fold of the real cohort trains for about half a minute."""
TRIALS, TRIAL_SECONDS = 20, 90.0
"""A trial is a fold or more; three folds of half a minute here."""


@contextlib.contextmanager
def _temporary_store() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        yield Path(folder)


def _time_fold() -> Measurement:
    """Track a run with parameters, 15 epochs of curves and a file."""
    from dml.config import params as config
    from dml.tracking.fold_run import fold_run

    params = config.load(ROOT / "params.yaml")
    if not (ROOT / "data" / params.cohort / "splits.parquet").exists():
        raise SkipBenchmark("the data that identify runs do not exist: dvc repro first")
    rng = np.random.default_rng(0)
    names = ["learning_rate", "train_task", "conflicts", "cosine", "validation_loss", "best"]
    history = pd.DataFrame(rng.normal(size=(EPOCHS, len(names))), columns=names).assign(epoch=range(EPOCHS))
    with _temporary_store() as folder:
        file = folder / "history.csv"
        history.to_csv(file)

        def track() -> None:
            with fold_run(params, "survival", "teacher", 0) as run:
                run.log_epochs(history)
                run.log_metrics({"c_index": 0.8})
                run.log_artifacts(file)

        result = time_repeats(track, repeats=5, warm=1)
    return Measurement(result.wall_s, result.cpu_s, {"% of a 30 s fold": 100 * result.cpu_s / FOLD_SECONDS})


class _NoOpObjective:
    """Objective without training: what remains is the bookkeeping."""

    folds = (0, 1, 2)

    def score(self, params, fold, on_epoch=None):  # type: ignore[no-untyped-def]
        """Report every epoch, as training does."""
        from dml.experiments.tuning.objective import Score

        loss = abs(params.optimisation.learning_rate - 1e-3) + fold
        for epoch in range(EPOCHS) if on_epoch else ():
            on_epoch(epoch, loss)
        return Score(loss)


def _time_trial() -> Measurement:
    """Run a trial of a study in a journal: draw its values, report 3 x 15 epochs, tell the result and track it."""
    from dml.config import params as config
    from dml.experiments.tuning.studies import StudyJob
    from dml.experiments.tuning.worker import run_trials

    params = config.load(ROOT / "params.yaml")
    with _temporary_store() as folder, contextlib.chdir(folder):
        job = StudyJob(params, "teacher", params.tasks[0], TRIALS, "benchmark")
        result = time_repeats(lambda: run_trials(job, _NoOpObjective()), repeats=1, warm=0)
    wall, cpu = result.wall_s / TRIALS, result.cpu_s / TRIALS
    return Measurement(wall, cpu, {"% of a 90 s trial": 100 * cpu / TRIAL_SECONDS})


GROUP = "9 commands"
register(Benchmark("MLflow, one fold", GROUP, _time_fold))
register(Benchmark("Optuna and MLflow, one trial", GROUP, _time_trial))
