"""Rebuild a tracked run from its git commit, its parameters and the hashes of its data, and compare the predictions.

The commit is checked out into a temporary worktree, the data are restored there from DVC's cache by their recorded
hash, the run's parameters are written into its params.yaml, and the stages of that commit train again with tracking
into a store of their own. Nothing of the present working tree takes part, and nothing of it is changed.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from dml.core.errors import DmlError, InputError, listed
from dml.core.predictions import read_predictions
from dml.core.tasks import task_of
from dml.evaluation.intervals import rounded
from dml.evaluation.metric_sets import PRIMARY, leading_metric
from dml.evaluation.metrics import unweighted
from dml.experiments.recorded_fold import RecordedFold, recorded_folds, restore_data, worktree, write_params
from dml.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREDICTIONS = "predictions.parquet"
ROUNDING = 1e-5
"""Predicted numbers may differ by this much with another number of threads: float32 sums in another order."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One fold as recorded and as trained again; `largest` is the largest difference of any predicted number."""

    fold: int
    metric: str
    recorded: float | None
    reproduced: float | None
    largest: float

    @property
    def identical(self) -> bool:
        """Whether the metric is the same to six decimals and no predicted number differs by more than rounding."""
        return self.recorded == self.reproduced and self.largest <= ROUNDING

    def row(self) -> dict[str, Any]:
        """Return the fold as a row of a table."""
        values = {self.metric: self.recorded, "again": self.reproduced, "largest difference": self.largest}
        same = "to the bit" if self.largest == 0 else "up to rounding"
        return {"fold": self.fold, **values, "identical": same if self.identical else "NO"}


Progress = Callable[[Sequence[RecordedFold]], Iterable[RecordedFold]]


def reproduce(run_id: str, only: int | None = None, progress: Progress = iter) -> list[Comparison]:
    """Train the folds of a run again and compare their test predictions with the recorded ones.

    Parameters
    ----------
    run_id : str
        Of one fold, or of a model (all its folds).
    only : int, optional
        The one fold to reproduce.
    progress : callable
        Wraps the folds, for a progress bar.

    Raises
    ------
    InputError
        If there is no such run, it is not of a trained model, or its commit or data are no longer available.
    DmlError
        If a stage fails; the message has its last lines.
    """
    client = store.connect(must_exist=True)
    folds = [fold for fold in recorded_folds(client, run_id) if only is None or fold.fold == only]
    if not folds:
        raise InputError(f"run {run_id}", "no finished fold to reproduce", "Give the run of a trained model")
    with worktree(folds[0].commit) as tree:
        restore_data(folds[0].data, tree)
        write_params(tree / "params.yaml", folds[0])
        return [_reproduce_fold(client, fold, tree) for fold in progress(folds)]


def _reproduce_fold(client: "MlflowClient", fold: RecordedFold, tree: Path) -> Comparison:
    with TemporaryDirectory() as temporary:
        recorded = _recorded_predictions(client, fold, temporary)
        for command in training_commands(tree, fold):
            _run(command, fold, tree)
        return compare(recorded, tree / fold.folder / PREDICTIONS, fold.fold)


def _recorded_predictions(client: "MlflowClient", fold: RecordedFold, folder: str) -> Path:
    """Fetch the predictions of a run; InputError if it has none."""
    if PREDICTIONS not in {item.path for item in client.list_artifacts(fold.run_id)}:
        problem = f"{fold.model} left no predictions of fold {fold.fold}"
        raise InputError(f"run {fold.run_id}", problem, "The reason is in its artifact model.json")
    return Path(client.download_artifacts(fold.run_id, PREDICTIONS, folder))


def training_commands(tree: Path, fold: RecordedFold) -> list[str]:
    """Commands of the stages in the tree's dvc.yaml that train a fold, those of the models it needs first.

    Raises
    ------
    InputError
        If there is none.
    """
    from dvc.repo import Repo

    with Repo(str(tree)) as repo:
        makers = {output.def_path: stage for stage in repo.index.stages for output in stage.outs}

    def commands(output: str) -> list[str]:
        needed = [dep.def_path for dep in makers[output].deps if dep.def_path.startswith("models/")]
        return [*(one for path in needed if path in makers for one in commands(path)), str(makers[output].cmd)]

    if fold.folder not in makers:
        problem = f"no stage of its dvc.yaml trains {fold.folder}"
        raise InputError(f"commit {fold.commit}", problem, "Was the model removed from params.yaml")
    return list(dict.fromkeys(commands(fold.folder)))


def _run(command: str, fold: RecordedFold, tree: Path) -> None:
    program, *arguments = shlex.split(command)
    words = [sys.executable if program == "python" else program, *arguments]
    (tree / "mlruns").mkdir(exist_ok=True)
    variables = {"PYTHONPATH": str(tree), "MLFLOW_TRACKING_URI": f"sqlite:///{tree}/mlruns/mlflow.db"}
    process = subprocess.run(words, cwd=tree, env=os.environ | variables, capture_output=True, text=True, check=False)
    if process.returncode:
        last = "\n".join(process.stderr.strip().splitlines()[-5:])
        raise DmlError(f"{command} of commit {fold.commit[:10]} failed:\n{last}")


def compare(old: Path, new: Path, fold: int) -> Comparison:
    """Compare the test predictions of two trainings: the leading metric, and every predicted number."""
    (one, meta), (other, _) = read_predictions(old), read_predictions(new)
    one, other = (rows[rows["role"] == "test"].sort_values("patient_id", ignore_index=True) for rows in (one, other))
    if one["patient_id"].tolist() != other["patient_id"].tolist():
        lost = set(one["patient_id"]) ^ set(other["patient_id"])
        raise DmlError(f"fold {fold}: other test patients than recorded: {listed(sorted(lost))}")
    columns = task_of(meta).output_columns(one.columns)
    largest = float(np.abs(one[columns].to_numpy(float) - other[columns].to_numpy(float)).max(initial=0.0))
    classes = tuple(meta.get("classes") or ())
    values = [leading_metric(rows, meta["kind"], classes)(unweighted(len(rows)))[0] for rows in (one, other)]
    recorded, reproduced = (rounded(float(value)) for value in values)
    return Comparison(fold, PRIMARY[meta["kind"]], recorded, reproduced, largest)
