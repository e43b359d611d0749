"""The trained models of each fold with their learning and test patients, and the embeddings of these patients.

Shape legend: n patients, d width of a subspace.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from dml.core.errors import InputError
from dml.core.tasks import Task
from dml.core.types import SUBSPACES, Cohort, Subspace
from dml.data.patient_reader import Patient, PatientReader
from dml.evaluation.results import PAIR
from dml.training.checkpoint import FoldModel
from dml.training.model_store import ModelStore

Change = Callable[[Cohort, int], Cohort]
"""The test patients of a fold, and its number, to the patients that a model is given instead."""
Tokens = Mapping[Subspace, np.ndarray]
"""Per subspace the tokens ``[n d]`` of some patients from one member of a model."""


@dataclass(frozen=True, slots=True)
class FoldModels:
    """One fold: its models by name, its learning patients, and its test patients whose outcome is known."""

    fold: int
    models: Mapping[str, FoldModel]
    learning: Cohort
    test: Cohort


def read_fold_models(folder: Path, cohort: Cohort, splits: pd.DataFrame, task: Task) -> list[FoldModels]:
    """Load teacher and student of every fold under ``models/<cohort>/<task>``.

    Raises
    ------
    InputError
        If a model is missing or cannot be loaded, or a fold has no test patient with a known outcome.
    """
    folds, store = [], ModelStore(folder)
    for fold in sorted(splits["fold"].unique().tolist()):
        rows = splits[splits["fold"] == fold]
        is_test = rows["role"] == "test"
        tested = set(rows.loc[is_test, "patient_id"]) & {c.patient_id for c in cohort.cases if task.is_known(c)}
        if not tested:
            raise InputError(folder, f"fold {fold} has no test patient with a known outcome", "Check splits.parquet")
        models = {name: store.fold_model(name, fold) for name in PAIR}
        learning = cohort.subset(set(rows.loc[~is_test, "patient_id"]))
        folds.append(FoldModels(int(fold), models, learning, cohort.subset(tested)))
    return folds


def collect_outcomes(folds: Sequence[FoldModels], task: Task) -> pd.DataFrame:
    """Return patient_id, site, fold and the target columns of every test patient, in the order of ids."""
    rows = [
        {"patient_id": case.patient_id, "site": case.site, "fold": one.fold, **task.target_values(case)}
        for one in folds
        for case in one.test.cases
    ]
    return pd.DataFrame(rows).sort_values("patient_id", ignore_index=True)


def predict_folds(folds: Sequence[FoldModels], model: str, change: Change | None = None) -> pd.DataFrame:
    """Predict the test patients of every fold, as they are or changed; in the order of ids."""
    parts = [one.models[model].predict(change(one.test, one.fold) if change else one.test) for one in folds]
    return pd.concat(parts).sort_values("patient_id", ignore_index=True)


def select_member(model: FoldModel, member: int) -> FoldModel:
    """Return a model that is one member of an ensemble."""
    return replace(model, members=(model.members[member],))


@dataclass(frozen=True, slots=True)
class FoldEmbeddings:
    """Embeddings of the learning and the test patients with a slide, from each ensemble member of one fold."""

    fold: int
    learning: Sequence[Patient]
    test: Sequence[Patient]
    members: Sequence[tuple[Tokens, Tokens]]


def embed_folds(folds: Sequence[FoldModels], model: str) -> list[FoldEmbeddings]:
    """Embed the patients of every fold with each member of its model."""
    embeddings = []
    for one in folds:
        ensemble = one.models[model]
        learning, test = (_read(ensemble, cohort) for cohort in (one.learning, one.test))
        members = range(len(ensemble.members))
        tokens = [(_tokens(ensemble, learning, k), _tokens(ensemble, test, k)) for k in members]
        embeddings.append(FoldEmbeddings(one.fold, learning, test, tokens))
    return embeddings


def with_slide(cohort: Cohort) -> Cohort:
    """Return the patients who have a tile."""
    return cohort.subset({case.patient_id for case in cohort.cases if case.has_slide})


def _read(model: FoldModel, cohort: Cohort) -> list[Patient]:
    reader = PatientReader(model.spec.preprocessor, cohort)
    return [reader(case) for case in with_slide(cohort).cases]


def _tokens(model: FoldModel, patients: Sequence[Patient], member: int) -> Tokens:
    targets = model.distillation_targets(patients, member)
    tokens = {s: [targets[p.patient_id].embeddings[s][0].double().numpy() for p in patients] for s in SUBSPACES}
    return {s: np.array(rows).reshape(len(patients), -1) for s, rows in tokens.items()}
