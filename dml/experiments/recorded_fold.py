"""A fold as the tracking store recorded it, and its working tree: commit, data and parameters restored."""

import ast
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from dml.core.errors import InputError
from dml.models import registry
from dml.tracking import runs
from dml.training.model_store import ModelStore

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CACHE = Path(".dvc/cache/files/md5")
_RENAMED = {"years": "evaluation.years"}
"""Parameters that earlier runs recorded under another name than that of params.yaml."""


@dataclass(frozen=True, slots=True)
class RecordedFold:
    """The training of one fold as the tracking store has it."""

    run_id: str
    cohort: str
    task: str
    model: str
    fold: int
    commit: str
    dirty: bool
    params: Mapping[str, str]
    data: Mapping[str, str]

    @property
    def folder(self) -> str:
        """Where the fold's model is, relative to the root of the repository."""
        return ModelStore.of(self.cohort, self.task).fold_folder(self.model, self.fold).as_posix()


def recorded_folds(client: "MlflowClient", run_id: str) -> list[RecordedFold]:
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
        return [_recorded_fold(run)]
    query = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'FINISHED'"
    children = runs.search(client, str(run.info.experiment_id), query)
    newest = {int(child.data.tags["fold"]): _recorded_fold(child) for child in children}
    return [newest[fold] for fold in sorted(newest)]


def _recorded_fold(run: "Run") -> RecordedFold:
    tags = run.data.tags
    inputs = run.inputs.dataset_inputs if run.inputs else []
    data = {str(used.dataset.name): str(used.dataset.digest) for used in inputs}
    subject = {name: tags[name] for name in ("cohort", "task", "model")}
    dirty, commit = tags.get("git_dirty") == "true", tags.get("git_commit", "unknown")
    return RecordedFold(str(run.info.run_id), **subject, fold=int(tags["fold"]), commit=commit, dirty=dirty,
                        data=data, params=dict(run.data.params))  # fmt: skip


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check a commit out into a temporary folder.

    Raises
    ------
    InputError
        If git does not have the commit.
    """
    with TemporaryDirectory(prefix="dml-reproduce-") as temporary:
        tree = Path(temporary) / "tree"
        process = _git("worktree", "add", "--detach", str(tree), commit)
        if process.returncode:
            problem = (process.stderr.strip().splitlines() or ["git failed without a message"])[-1]
            raise InputError(f"commit {commit}", problem, "Fetch the commit, then try again")
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def restore_data(data: Mapping[str, str], tree: Path, cache: Path = CACHE) -> None:
    """Copy the data of a run by their recorded DVC hashes: from the cache, else from here if they are the same.

    Raises
    ------
    InputError
        If a run recorded no data, or something of it is neither in the cache nor here.
    """
    if not data:
        raise InputError("run", "it recorded no hashes of its data", "It was not trained by dvc repro")
    for name, hashed in data.items():
        if hashed.endswith(".dir"):
            for entry in _listing(cache, name, hashed):
                _fetch(cache, f"{name}/{entry['relpath']}", entry["md5"], tree)
        else:
            _fetch(cache, name, hashed, tree)


def _listing(cache: Path, name: str, hashed: str) -> list[dict[str, str]]:
    path = _cached(cache, hashed)
    if not path.exists():
        raise _unavailable(name, hashed)
    entries: list[dict[str, str]] = json.loads(path.read_text())
    return entries


def _fetch(cache: Path, name: str, hashed: str, tree: Path) -> None:
    source, target = _cached(cache, hashed), tree / name
    if not source.exists():
        source = Path(name)
        if not source.is_file() or hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest() != hashed:
            raise _unavailable(name, hashed)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _cached(cache: Path, hashed: str) -> Path:
    return cache / hashed[:2] / hashed[2:]


def _unavailable(name: str, hashed: str) -> InputError:
    remedy = "dvc fetch --all-commits may have it"
    return InputError(name, f"neither in DVC's cache nor here with hash {hashed}", remedy)


def write_params(path: Path, fold: RecordedFold) -> None:
    """Set the recorded parameters in the params.yaml of the commit: the run may have been made with others."""
    content = yaml.safe_load(path.read_text())
    for name, text in fold.params.items():
        *sections, key = _RENAMED.get(name, name).split(".")
        section = content
        for part in sections:
            section = section.setdefault(part, {})
        section[key] = _parse(text)
    content["cohort"] = fold.cohort
    content["tasks"] = list(dict.fromkeys([*content.get("tasks", ()), fold.task]))  # so that there is a stage for it
    content["folds"] = list(range(max(len(content.get("folds", ())), fold.fold + 1, 2)))
    model = registry.entries().get(fold.model)
    if model is not None and model.family == "deep":
        content.setdefault("baselines", {})["deep"] = [fold.model]
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _parse(text: str) -> Any:
    """Undo `str`: numbers, truth values and lists; anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
