"""Test predictions of all models of a task, read from models/<cohort>/<task>."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.core.errors import InputError, listed
from dml.core.model_name import ModelName
from dml.core.predictions import read_predictions
from dml.core.tasks import task_of
from dml.core.types import Kind
from dml.models.registry import entries

log = logging.getLogger(__name__)

PAIR = ("teacher", "student")
"""The models that the method trains; all others are what they are compared with."""


@dataclass(frozen=True, slots=True)
class Training:
    """A fold's training patients: their follow-up, and the median of their risks (None for classes)."""

    days: np.ndarray
    event: np.ndarray
    cutoff: float | None


@dataclass(frozen=True, slots=True)
class ModelResult:
    """The test predictions of one model over all folds, by patient id, and its training per fold."""

    name: str
    rows: pd.DataFrame
    training: Mapping[int, Training]


@dataclass(frozen=True, slots=True)
class Results:
    """All models of a task."""

    task: str
    kind: Kind
    classes: tuple[str, ...]
    models: Mapping[str, ModelResult]

    @property
    def target_columns(self) -> tuple[str, ...]:
        """Columns of what was observed."""
        return task_of({"task": self.task, "kind": self.kind, "classes": self.classes}).target_columns

    @property
    def patients(self) -> pd.DataFrame:
        """Each test patient of any model once, in the order of ids: site, fold and truth."""
        columns = ["patient_id", "site", "fold", *self.target_columns]
        every = pd.concat([model.rows[columns] for model in self.models.values()])
        return every.drop_duplicates("patient_id").sort_values("patient_id", ignore_index=True)

    @property
    def folds(self) -> list[int]:
        """The outer folds, in order."""
        return sorted(self.patients["fold"].unique().tolist())


def read_results(*folders: Path, names: Collection[str] | None = None) -> Results:
    """Read ``<folder>/<model>/fold-<k>/predictions.parquet`` of every model, or of those whose registry key is named.

    Raises
    ------
    InputError
        If there is none, a file is not valid, a patient is tested in more than one fold of a model, or models disagree
        on the task, a patient's fold or the outcome.
    """
    every = [path for folder in folders for path in sorted(folder.glob("*/fold-*/predictions.parquet"))]
    paths = [path for path in every if names is None or ModelName.parse(path.parent.parent.name).base in names]
    folder = folders[0]
    if not paths:
        raise InputError(folder, "no */fold-*/predictions.parquet", "Train models first: dvc repro")
    read = {path: read_predictions(path) for path in paths}
    task, kind, classes = _common_task(read)
    by_model: dict[str, list[Path]] = {}
    for path in paths:
        by_model.setdefault(path.parent.parent.name, []).append(path)
    models = {name: _model(name, [read[path] for path in by_model[name]], folder) for name in sort_models(by_model)}
    results = Results(task, kind, classes, {name: model for name, model in models.items() if len(model.rows)})
    if not results.models:
        raise InputError(folder, "no test patient in any predictions.parquet", "Check the roles in splits.parquet")
    _check_same_truth(folder, results)
    return results


def sort_models(names: Iterable[str]) -> list[str]:
    """Sort models for tables and figures: without age and sex before with; then in the order of the registry."""
    order = list(entries())

    def position(text: str) -> tuple[bool, bool, int, str]:
        name = ModelName.parse(text)
        at = order.index(name.base) if name.base in order else len(order)
        return reads_clinical(text), name.recalibrated, at, text

    return sorted(names, key=position)


def reads_clinical(model: str) -> bool:
    """Whether a model reads age and sex, as an input or fused late."""
    name = ModelName.parse(model)
    return name.clinical or (name.base in entries() and "clinical" in entries()[name.base].inputs)


def assign_risk_groups(model: ModelResult) -> pd.Series | None:
    """1 for patients above the median risk of their fold's training patients, else 0; None if it is unknown."""
    cutoffs = {fold: training.cutoff for fold, training in model.training.items()}
    if any(cutoffs.get(fold) is None for fold in model.rows["fold"].unique()):
        return None
    return (model.rows["risk"] > model.rows["fold"].map(cutoffs)).astype(int)


def _common_task(read: Mapping[Path, tuple[pd.DataFrame, dict[str, Any]]]) -> tuple[str, Kind, tuple[str, ...]]:
    tasks = {
        path: (meta.get("task"), meta["kind"], tuple(meta.get("classes") or ())) for path, (_, meta) in read.items()
    }
    (first, task), *rest = tasks.items()
    for path, other in rest:
        if other != task:
            raise InputError(path, f"is of {other}, but {first} is of {task}", "Remove the stale model and repeat")
    name, kind, classes = task
    return str(name), kind, classes


def _model(name: str, parts: Sequence[tuple[pd.DataFrame, dict[str, Any]]], folder: Path) -> ModelResult:
    tested = pd.concat([rows[rows["role"] == "test"] for rows, _ in parts], ignore_index=True)
    twice = tested.loc[tested["patient_id"].duplicated(), "patient_id"].unique().tolist()
    if twice:
        remedy = "Every patient has exactly one test fold: check splits.parquet"
        raise InputError(folder / name, f"patients tested more than once: {listed(sorted(twice))}", remedy)
    training = {int(rows["fold"].iloc[0]): _training(meta) for rows, meta in parts if len(rows)}
    rows = tested.assign(model=name).sort_values("patient_id", ignore_index=True)
    if "event" in rows:
        rows["event"] = rows["event"].astype(bool)
    return ModelResult(name, rows, training)


def _training(metadata: Mapping[str, Any]) -> Training:
    days = np.asarray(metadata.get("train_days") or (), float)
    return Training(days, np.asarray(metadata.get("train_event") or (), bool), metadata.get("train_cutoff"))


def _check_same_truth(folder: Path, results: Results) -> None:
    expected = results.patients.set_index("patient_id")
    for name, model in results.models.items():
        rows = model.rows.set_index("patient_id")[list(expected.columns)]
        wrong = (rows != expected.loc[rows.index]).drop(columns="site").any(axis=1)
        if wrong.any():
            first = next(iter(results.models))
            problem = f"fold or truth differ from those of {first} for {listed(sorted(wrong[wrong].index))}"
            raise InputError(folder / name, problem, "The models were trained on different splits: run dvc repro")
