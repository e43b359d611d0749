"""What all models of a task said about their test patients, read from models/<cohort>/<task> and put side by side."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.core.errors import InputError, listed
from dml.core.model_name import ModelName
from dml.core.predictions import Kind, read_predictions, truths
from dml.models.registry import entries

log = logging.getLogger(__name__)

RECALIBRATED = "-recalibrated"
"""End of the name of a model whose level and spread were refitted on another cohort."""
CLINICAL = "-clinical"
"""End of the name of a model that has seen age and sex."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a fold's model learnt from: follow-up of its training patients and their median risk (None for classes)."""

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
    def patients(self) -> pd.DataFrame:
        """Each test patient of any model once, in the order of ids: site, fold and truth."""
        columns = ["patient_id", "site", "fold", *truths({"kind": self.kind})]
        every = pd.concat([model.rows[columns] for model in self.models.values()])
        return every.drop_duplicates("patient_id").sort_values("patient_id", ignore_index=True)

    @property
    def folds(self) -> list[int]:
        """The outer folds, in order."""
        return sorted(self.patients["fold"].unique().tolist())


def read_results(folder: Path) -> Results:
    """Read ``<folder>/<model>/fold-<k>/predictions.parquet`` of every model.

    Raises
    ------
    InputError
        If there is none, a file is not valid, a patient is tested in more than one fold of a model, or models disagree
        on the task, a patient's fold or what was observed.
    """
    paths = sorted(folder.glob("*/fold-*/predictions.parquet"))
    if not paths:
        raise InputError(folder, "no */fold-*/predictions.parquet", "Train models first: dvc repro")
    read = {path: read_predictions(path) for path in paths}
    task, kind, classes = _agreed(read)
    by_model: dict[str, list[Path]] = {}
    for path in paths:
        by_model.setdefault(path.parent.parent.name, []).append(path)
    models = {name: _model(name, [read[path] for path in by_model[name]], folder) for name in ordered(by_model)}
    results = Results(task, kind, classes, {name: model for name, model in models.items() if len(model.rows)})
    if not results.models:
        raise InputError(folder, "no test patient in any predictions.parquet", "Check the roles in splits.parquet")
    _check_same_truth(folder, results)
    return results


def ordered(names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Order models for tables and figures: without age and sex before with; then in the order of the registry."""

    order = list(entries())

    def position(text: str) -> tuple[bool, bool, int]:
        name = ModelName.parse(text)
        at = order.index(name.base) if name.base in order else len(order)
        return knows_clinical(text), name.recalibrated, at

    return sorted(sorted(names), key=position)


def reranked(model: str) -> bool:
    """Whether a model orders patients in a way of its own; a recalibrated one orders them as it did before."""
    return not model.endswith(RECALIBRATED)


def knows_clinical(model: str) -> bool:
    """Whether a model has seen age and sex."""
    name = ModelName.parse(model)
    return name.clinical or (name.base in entries() and "clinical" in entries()[name.base].inputs)


def risk_groups(model: ModelResult) -> pd.Series | None:
    """1 for patients above the median risk of their fold's training patients, else 0; None if it is unknown."""
    cutoffs = {fold: training.cutoff for fold, training in model.training.items()}
    if any(cutoffs.get(fold) is None for fold in model.rows["fold"].unique()):
        return None
    return (model.rows["risk"] > model.rows["fold"].map(cutoffs)).astype(int)


def _agreed(read: Mapping[Path, tuple[pd.DataFrame, dict[str, Any]]]) -> tuple[str, Kind, tuple[str, ...]]:
    said = {
        path: (meta.get("task"), meta["kind"], tuple(meta.get("classes") or ())) for path, (_, meta) in read.items()
    }
    first, *rest = said.items()
    for path, claim in rest:
        if claim != first[1]:
            raise InputError(
                path, f"is of {claim}, but {first[0]} is of {first[1]}", "Remove the stale model and repeat"
            )
    task, kind, classes = first[1]
    return str(task), kind, classes


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
    agreed = results.patients.set_index("patient_id")
    for name, model in results.models.items():
        own = model.rows.set_index("patient_id")[list(agreed.columns)]
        wrong = (own != agreed.loc[own.index]).drop(columns="site").any(axis=1)
        if wrong.any():
            first = next(iter(results.models))
            found = f"fold or truth differ from those of {first} for {listed(sorted(wrong[wrong].index))}"
            raise InputError(folder / name, found, "The models were trained on different splits: run dvc repro")
