"""What a fold's model says of patients, beside the truth: the rows of predictions.parquet and their metadata."""

from typing import Any

import pandas as pd

from dml.core.types import SURVIVAL, Case, Cohort
from dml.training.checkpoint import FoldModel
from dml.training.folds import Fold, unseen


def judged(model: FoldModel, fold: Fold, test: Cohort, name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predict a fold's validation patients by members that have not learnt from them, and its test patients by all.

    Parameters
    ----------
    model, fold
        What was trained, on whom.
    test : Cohort
        The fold's test patients.
    name : str
        The model's, for the column model.

    Returns
    -------
    rows : DataFrame
        As `dml.core.predictions.write_predictions` wants them; patients of unknown truth are left out.
    metadata : dict
        Task, classes, median training risk, follow-up of the learning patients.
    """
    task = model.spec.preprocessor.task
    parts = {"validation": (fold.learning, unseen(model, fold)), "test": (test, model.predict(test))}
    rows = pd.concat([_with_truth(*part, task).assign(role=role) for role, part in parts.items()], ignore_index=True)
    return rows.assign(fold=fold.index, model=name), _metadata(model, fold)


def _with_truth(part: Cohort, predicted: pd.DataFrame, task: str) -> pd.DataFrame:
    known = {case.patient_id: case for case in part.cases if _truth(case, task)}
    kept = predicted[predicted["patient_id"].isin(known.keys())].reset_index(drop=True)
    cases = [known[patient] for patient in kept["patient_id"]]
    truth = pd.DataFrame([_truth(case, task) for case in cases])
    return kept.assign(site=[case.site for case in cases], **truth)


def _truth(case: Case, task: str) -> dict[str, object]:
    if task != SURVIVAL:
        return {"label": case.labels[task]} if task in case.labels else {}
    return {} if case.survival is None else {"days": case.survival.days, "event": case.survival.event}


def _metadata(model: FoldModel, fold: Fold) -> dict[str, Any]:
    follow_up = [case.survival for case in fold.learning.cases if case.survival is not None]
    preprocessor = model.spec.preprocessor
    return {
        "task": preprocessor.task,
        "kind": preprocessor.kind,
        "classes": list(preprocessor.classes),
        "train_cutoff": model.spec.train_cutoff,
        "train_days": [s.days for s in follow_up],
        "train_event": [s.event for s in follow_up],
    }
