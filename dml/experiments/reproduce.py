"""Rebuild a tracked run from its git commit, its parameters and the hashes of its data, and compare what comes out.

The commit is checked out into a temporary worktree, the data are restored there from DVC's cache by their recorded
hash, the run's parameters are written into its params.yaml, and the stages of that commit train again with tracking
into a store of their own. Nothing of the present working tree takes part, and nothing of it is changed.
"""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from dml.core.errors import DmlError, InputError, listed
from dml.core.predictions import read_predictions
from dml.core.tasks import task_of
from dml.evaluation.intervals import rounded
from dml.evaluation.metric_sets import PRIMARY, leading_metric
from dml.evaluation.metrics import unweighted
from dml.tracking import lineage, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CACHE = Path(".dvc/cache/files/md5")
PREDICTIONS = "predictions.parquet"
ROUNDING = 1e-5
"""Predicted numbers may differ by this much with another number of threads: float32 sums in another order."""
BEFORE = {"distil": ("teach", "distil")}
"""Stages whose models need those of another stage."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the tracking store knows of the training of one fold."""

    run_id: str
    cohort: str
    task: str
    model: str
    fold: int
    commit: str
    dirty: bool
    params: Mapping[str, str]
    data: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Compared:
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
        said = "to the bit" if self.largest == 0 else "up to rounding"
        return {"fold": self.fold, **values, "identical": said if self.identical else "NO"}


Progress = Callable[[Sequence[Recorded]], Iterable[Recorded]]


def reproduce(run_id: str, only: int | None = None, progress: Progress = iter) -> list[Compared]:
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
        If there is no such run, it is not of a trained model, its commit or data are not to be had any more.
    DmlError
        If a stage fails; the message has its last lines.
    """
    client = store.connect()
    folds = [found for found in recorded(client, run_id) if only is None or found.fold == only]
    if not folds:
        remedy = "Give a run of a trained model; one with age and sex beside it is fitted on what that model said"
        raise InputError(f"run {run_id}", "no finished fold to reproduce", remedy)
    with worktree(folds[0].commit) as place:
        restore(folds[0].data, place)
        write_params(place / "params.yaml", folds[0])
        return [_again(client, fold, place) for fold in progress(folds)]


def recorded(client: "MlflowClient", run_id: str) -> list[Recorded]:
    """Return the finished folds of a run in order, the newest run of each.

    Raises
    ------
    InputError
        If there is no such run.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException:
        raise InputError(f"run {run_id}", "not in the tracking store", "dml registry ls and make ui list ids") from None
    if run.data.tags.get("level") == "fold":
        return [_recorded(run)]
    query = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'FINISHED'"
    found = runs.search(client, str(run.info.experiment_id), query)
    newest = {int(child.data.tags["fold"]): _recorded(child) for child in found}
    return [newest[fold] for fold in sorted(newest)]


def _recorded(run: "Run") -> Recorded:
    tags = run.data.tags
    inputs = run.inputs.dataset_inputs if run.inputs else []
    data = {str(used.dataset.name): str(used.dataset.digest) for used in inputs}
    named = {name: tags[name] for name in ("cohort", "task", "model")}
    dirty, commit = tags.get("git_dirty") == "true", tags.get("git_commit", "unknown")
    return Recorded(str(run.info.run_id), **named, fold=int(tags["fold"]), commit=commit, dirty=dirty, data=data,
                    params=dict(run.data.params))  # fmt: skip


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check a commit out into a temporary folder.

    Raises
    ------
    InputError
        If git does not know the commit.
    """
    with TemporaryDirectory(prefix="dml-reproduce-") as temporary:
        place = Path(temporary) / "tree"
        done = _git("worktree", "add", "--detach", str(place), commit)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["git said nothing"])[-1]
            raise InputError(f"commit {commit}", said, "Fetch the commit, then try again")
        try:
            yield place
        finally:
            _git("worktree", "remove", "--force", str(place))


def restore(data: Mapping[str, str], place: Path, cache: Path = CACHE) -> None:
    """Copy the data of a run by their recorded DVC hashes: from the cache, else from here if they are the same.

    Raises
    ------
    InputError
        If a run recorded no data, or something of it is in neither place.
    """
    if not data:
        raise InputError("run", "it recorded no hashes of its data", "It was not trained by dvc repro")
    for name, hashed in data.items():
        if hashed.endswith(".dir"):
            for entry in _listing(cache, name, hashed):
                _fetch(cache, f"{name}/{entry['relpath']}", entry["md5"], place)
        else:
            _fetch(cache, name, hashed, place)


def _listing(cache: Path, name: str, hashed: str) -> list[dict[str, str]]:
    path = _cached(cache, hashed)
    if not path.exists():
        raise _gone(name, hashed)
    found: list[dict[str, str]] = json.loads(path.read_text())
    return found


def _fetch(cache: Path, name: str, hashed: str, place: Path) -> None:
    source, target = _cached(cache, hashed), place / name
    if not source.exists():
        source = Path(name)
        if not source.is_file() or hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest() != hashed:
            raise _gone(name, hashed)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _cached(cache: Path, hashed: str) -> Path:
    return cache / hashed[:2] / hashed[2:]


def _gone(name: str, hashed: str) -> InputError:
    return InputError(
        name, f"neither in DVC's cache nor here with hash {hashed}", "dvc fetch --all-commits may have it"
    )


def write_params(path: Path, fold: Recorded) -> None:
    """Set the recorded parameters in the params.yaml of the commit: the run may have been made with others."""
    content = yaml.safe_load(path.read_text())
    for name, text in fold.params.items():
        *sections, key = ("evaluation.years" if name == "years" else name).split(".")
        section = content
        for part in sections:
            section = section.setdefault(part, {})
        section[key] = _value(text)
    content["cohort"] = fold.cohort
    if lineage.stage_of(fold.model) == "deep_baseline":
        content.setdefault("baselines", {})["deep"] = [fold.model]
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _value(text: str) -> Any:
    """Undo `str`: numbers, truth values and lists; anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _again(client: "MlflowClient", fold: Recorded, place: Path) -> Compared:
    made_by = lineage.stage_of(fold.model)
    with TemporaryDirectory() as temporary:
        old = _kept(client, fold, temporary)
        for stage in BEFORE.get(made_by, (made_by,)):
            _run_stage(stage, fold, place)
        new = place / "models" / fold.cohort / fold.task / fold.model / f"fold-{fold.fold}" / PREDICTIONS
        return compare(old, new, fold.fold)


def _kept(client: "MlflowClient", fold: Recorded, folder: str) -> Path:
    """Fetch the predictions that a run kept; InputError if it has none."""
    if PREDICTIONS not in {item.path for item in client.list_artifacts(fold.run_id)}:
        found = f"{fold.model} left no predictions of fold {fold.fold}"
        raise InputError(f"run {fold.run_id}", found, "Its artifact model.json says why it was left out")
    return Path(client.download_artifacts(fold.run_id, PREDICTIONS, folder))


def _run_stage(stage: str, fold: Recorded, place: Path) -> None:
    command = [sys.executable, "-m", f"pipelines.{stage}", "--task", fold.task, "--fold", str(fold.fold)]
    own = {"PYTHONPATH": str(place), "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlruns/mlflow.db"}
    (place / "mlruns").mkdir(exist_ok=True)
    done = subprocess.run(command, cwd=place, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise DmlError(f"stage {stage} of commit {fold.commit[:10]}, fold {fold.fold}, failed:\n{last}")


def compare(old: Path, new: Path, fold: int) -> Compared:
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
    return Compared(fold, PRIMARY[meta["kind"]], recorded, reproduced, largest)


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
