"""What the probes look at: the trained models of each fold, the patients they learnt from and those they are tested on.

Shape legend: n patients, d width of a subspace.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.core.errors import InputError
from dml.core.types import SUBSPACES, SURVIVAL, Case, Cohort, Subspace
from dml.data.batches import Patient, PatientReader
from dml.training.checkpoint import FoldModel

MODELS = ("teacher", "student")
Change = Callable[[Cohort, int], Cohort]
"""The test patients of a fold, and its number, to what a model is shown of them instead."""
Tokens = Mapping[Subspace, np.ndarray]
"""Per subspace the tokens ``[n d]`` of some patients, as one member of a model sees them."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One fold: its models by name, its learning patients, and its test patients whose outcome is known."""

    fold: int
    models: Mapping[str, FoldModel]
    learning: Cohort
    test: Cohort


def observed(case: Case, task: str) -> dict[str, Any]:
    """Return what was observed of a patient, as the truth columns of predictions; empty if nothing was."""
    if task == SURVIVAL:
        return {} if case.survival is None else {"days": case.survival.days, "event": case.survival.event}
    return {"label": case.labels[task]} if task in case.labels else {}


def read_subjects(folder: Path, cohort: Cohort, splits: pd.DataFrame, task: str) -> list[Subject]:
    """Load teacher and student of every fold under ``models/<cohort>/<task>``.

    Raises
    ------
    InputError
        If a model is missing or cannot be loaded, or a fold has no test patient with a known outcome.
    """
    subjects = []
    for fold in sorted(splits["fold"].unique().tolist()):
        rows = splits[splits["fold"] == fold]
        tested = set(rows.loc[rows["role"] == "test", "patient_id"])
        known = {case.patient_id for case in cohort.cases if observed(case, task)}
        if not tested & known:
            raise InputError(folder, f"fold {fold} has no test patient with a known outcome", "Check splits.parquet")
        models = {name: FoldModel.load(folder / name / f"fold-{fold}") for name in MODELS}
        learning = cohort.subset(set(rows.loc[rows["role"] != "test", "patient_id"]))
        subjects.append(Subject(int(fold), models, learning, cohort.subset(tested & known)))
    return subjects


def truth(subjects: Sequence[Subject], task: str) -> pd.DataFrame:
    """Return patient_id, site, fold and what was observed of every test patient, in the order of ids."""
    rows = [
        {"patient_id": case.patient_id, "site": case.site, "fold": subject.fold, **observed(case, task)}
        for subject in subjects
        for case in subject.test.cases
    ]
    return pd.DataFrame(rows).sort_values("patient_id", ignore_index=True)


def predicted(subjects: Sequence[Subject], model: str, change: Change | None = None) -> pd.DataFrame:
    """Predict the test patients of every fold, shown as they are or changed; in the order of ids."""
    parts = [
        subject.models[model].predict(change(subject.test, subject.fold) if change else subject.test)
        for subject in subjects
    ]
    return pd.concat(parts).sort_values("patient_id", ignore_index=True)


def one_member(model: FoldModel, member: int) -> FoldModel:
    """Return one member of a fold's model as a model of its own."""
    return replace(model, members=(model.members[member],))


@dataclass(frozen=True, slots=True)
class View:
    """What the members of one fold's model keep of its learning and its test patients with a slide."""

    fold: int
    learning: Sequence[Patient]
    test: Sequence[Patient]
    kept: Sequence[tuple[Tokens, Tokens]]


def views(subjects: Sequence[Subject], model: str) -> list[View]:
    """Represent the patients of every fold by each member of its model."""
    found = []
    for subject in subjects:
        own = subject.models[model]
        learning, test = (_read(own, part) for part in (subject.learning, subject.test))
        members = range(len(own.members))
        kept = [(_tokens(own, learning, member), _tokens(own, test, member)) for member in members]
        found.append(View(subject.fold, learning, test, kept))
    return found


def with_slide(cohort: Cohort) -> Cohort:
    """Return the patients who have a tile."""
    return cohort.subset({case.patient_id for case in cohort.cases if any(len(bag) for bag in case.bags.values())})


def _read(model: FoldModel, cohort: Cohort) -> list[Patient]:
    reader = PatientReader(model.spec.preprocessor, cohort)
    return [reader(case) for case in with_slide(cohort).cases]


def _tokens(model: FoldModel, patients: Sequence[Patient], member: int) -> Tokens:
    lessons = model.lessons(patients, member)
    tokens = {s: [getattr(lessons[p.patient_id], s)[0].double().numpy() for p in patients] for s in SUBSPACES}
    return {s: np.array(rows).reshape(len(patients), -1) for s, rows in tokens.items()}
