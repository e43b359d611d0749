"""One cross-validation fold: its training patients with their inner folds, and the predictions of a trained model.

Nested cross-validation: the patients of a fold that are not tested are divided into inner folds. Member i of an
ensemble is trained on all inner folds but i (modulo their number) and selected on inner fold i: together the members
train on every patient, and each patient has a prediction by a member that did not train on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dml.core.errors import InputError
from dml.core.types import Cohort
from dml.training.checkpoint import FoldModel
from dml.training.training_result import TrainingResult


@dataclass(frozen=True, slots=True)
class Fold:
    """The patients of one fold that are not tested; the test patients are deliberately not here.

    Attributes
    ----------
    index : int
        Number of the fold.
    learning : Cohort
        Training and validation patients.
    inner_fold_of : mapping
        Patient to inner fold 0, 1, ...; a patient who is not in it is trained on and never validated on.
    """

    index: int
    learning: Cohort
    inner_fold_of: Mapping[str, int]

    @property
    def n_inner_folds(self) -> int:
        """Number of inner folds to validate on."""
        return max(self.inner_fold_of.values(), default=-1) + 1

    def training(self, member: int = 0) -> Cohort:
        """Return the training patients of an ensemble member."""
        return self.learning.subset({c.patient_id for c in self.learning.cases} - self._validated(member))

    def validation(self, member: int = 0) -> Cohort:
        """Return the validation patients of an ensemble member."""
        return self.learning.subset(self._validated(member))

    def _validated(self, member: int) -> set[str]:
        inner_fold = member % max(self.n_inner_folds, 1)
        return {patient for patient, number in self.inner_fold_of.items() if number == inner_fold}


def make_fold(cohort: Cohort, splits: pd.DataFrame, index: int) -> Fold:
    """Select the training and validation patients of a fold.

    Raises
    ------
    InputError
        If the splits do not have this fold.

    Examples
    --------
    >>> from dml.data.example_cohort import example_cohort, example_splits
    >>> cohort = example_cohort(20)
    >>> fold = make_fold(cohort, example_splits(cohort), 0)
    >>> fold.n_inner_folds, len(fold.learning.cases), len(fold.validation(member=0).cases)
    (3, 16, 4)
    """
    rows = splits[splits["fold"] == index]
    if rows.empty:
        raise InputError("splits.parquet", f"no fold {index}", "Set folds in params.yaml and run dvc repro split")
    learning = rows[rows["role"] != "test"]
    validated = learning[learning["inner_fold"] >= 0]
    inner_fold_of = dict(zip(validated["patient_id"], validated["inner_fold"].astype(int), strict=True))
    return Fold(index, cohort.subset(set(learning["patient_id"])), inner_fold_of)


def select_test_patients(cohort: Cohort, splits: pd.DataFrame, index: int) -> Cohort:
    """Select the test patients of a fold: for prediction only."""
    rows = splits[(splits["fold"] == index) & (splits["role"] == "test")]
    return cohort.subset(set(rows["patient_id"]))


def predict_fold(trained: TrainingResult, fold: Fold, test: Cohort, name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predict a fold's validation patients out of fold, and its test patients by all members.

    Parameters
    ----------
    trained, fold
        The trained model with its out-of-fold predictions, and its patients.
    test : Cohort
        The fold's test patients.
    name : str
        The model's, for the column ``model``.

    Returns
    -------
    rows : DataFrame
        As `dml.core.predictions.write_predictions` takes them; patients of unknown outcome are left out.
    metadata : dict
        Task, classes, median training risk, follow-up of the training patients.
    """
    model = trained.model
    task = model.spec.preprocessor.task.name
    parts = {"validation": (fold.learning, trained.out_of_fold), "test": (test, model.predict(test))}
    rows = pd.concat([_add_targets(*part, task).assign(role=role) for role, part in parts.items()], ignore_index=True)
    return rows.assign(fold=fold.index, model=name), _make_metadata(model, fold)


def _add_targets(cohort: Cohort, predictions: pd.DataFrame, task: str) -> pd.DataFrame:
    by_id = {case.patient_id: case for case in cohort.cases if case.has_target(task)}
    rows = predictions[predictions["patient_id"].isin(by_id.keys())].reset_index(drop=True)
    cases = [by_id[patient] for patient in rows["patient_id"]]
    targets = pd.DataFrame([case.target_values(task) for case in cases])
    return rows.assign(site=[case.site for case in cases], **targets)


def _make_metadata(model: FoldModel, fold: Fold) -> dict[str, Any]:
    follow_up = [case.survival for case in fold.learning.cases if case.survival is not None]
    task = model.spec.preprocessor.task
    return {
        "task": task.name,
        "kind": task.kind,
        "classes": list(task.classes),
        "train_cutoff": model.spec.train_cutoff,
        "train_days": [s.days for s in follow_up],
        "train_event": [s.event for s in follow_up],
    }
