"""What a trial is judged by: inner validation of each fold. Test patients are not among what a fold is cut out of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dml.config.params import Params
from dml.core.errors import ConfigError, InputError
from dml.core.files import read_parquet
from dml.core.tasks import class_column
from dml.core.types import SURVIVAL, Case, Cohort
from dml.data.load_cohort import read_cohort
from dml.evaluation.metrics.classification import macro_auc
from dml.evaluation.metrics.concordance import harrell_c
from dml.experiments.tuning.search_space import Kind
from dml.experiments.tuning.teachers import read_teachers
from dml.training.checkpoint import FoldModel
from dml.training.ensemble_trainer import TrainingResult
from dml.training.folds import Fold, fold_of, unseen
from dml.training.train import distil, teach
from dml.training.trainer import EpochCallback

COUNTED, DECIMALS = 16, 6
"""Patients whose predictions are counted for the cost, and its decimals."""


class Score(NamedTuple):
    """How good a model is on a fold, and what a prediction costs (None where that is not asked for)."""

    value: float
    gflops: float | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """The learning parts of the folds that trials are averaged over and, to distil, their teachers."""

    kind: Kind
    task: str
    metric: str
    folds: Mapping[int, Fold]
    teachers: Mapping[int, FoldModel]

    @classmethod
    def of(
        cls,
        params: Params,
        kind: Kind,
        task: str,
        cohort: Cohort,
        splits: pd.DataFrame,
        teachers: Mapping[int, FoldModel] | None = None,
    ) -> "Objective":
        """Cut the folds out of a cohort; a study of the distillation needs the teachers of the folds.

        Raises
        ------
        InputError
            If a fold has nobody to judge by.
        """
        folds = {index: fold_of(cohort, splits, index) for index in chosen_folds(params)}
        for index, fold in folds.items():
            if not any(case.has_target(task) for case in fold.validation().cases):
                found = f"no validation patient of fold {index} has a {task}"
                raise InputError("splits.parquet", found, "Raise split.validation_share or use fewer folds")
        return cls(kind, task, params.tuning.objective, folds, teachers or {})

    @classmethod
    def read(cls, params: Params, kind: Kind, task: str) -> "Objective":
        """Read the stores of the current cohort."""
        folder = Path("data") / params.cohort
        cohort = read_cohort(folder, params.embed.encoder, params.tiles.mpps)
        splits = read_parquet(folder / "splits.parquet")[0].to_pandas()
        teachers = read_teachers(params, task, chosen_folds(params)) if kind == "distil" else None
        return cls.of(params, kind, task, cohort, splits, teachers)

    def score(self, params: Params, fold: int, on_epoch: EpochCallback | None = None) -> Score:
        """Train on one fold and judge it by the fold's validation patients; `on_epoch` is told how it goes."""
        part = self.folds[fold]
        if self.kind == "teacher":
            trained = teach(part, params, self.task, on_epoch)
        else:
            trained = distil(part, params, self.task, self.teachers[fold], on_epoch)
        value = self._loss(trained) if self.metric == "validation_loss" else self._ranking(trained, part)
        return Score(
            value, gflops(trained.model, part.learning) if params.tuning.second_objective == "gflops" else None
        )

    def _loss(self, trained: TrainingResult) -> float:
        return float(trained.history.groupby("member")["validation_loss"].min().mean())

    def _ranking(self, trained: TrainingResult, fold: Fold) -> float:
        """Judge each validation patient by the members that have not seen him; pairs of the same inner part count."""
        known = {case.patient_id: case for case in fold.learning.cases if case.has_target(self.task)}
        predicted = unseen(trained.model, fold)
        said = predicted[predicted["patient_id"].isin(known)].reset_index(drop=True)
        cases = [known[patient] for patient in said["patient_id"]]
        part = said["patient_id"].map(fold.parts).to_numpy(int)
        classes = trained.model.spec.preprocessor.classes
        found = concordance(said, cases, part) if self.task == SURVIVAL else area(said, cases, part, self.task, classes)
        if not np.isfinite(found):
            what = f"{self.metric} is not defined on the validation patients of fold {fold.index}"
            raise InputError("splits.parquet", what, "Set tuning.objective to validation_loss")
        return found


def gflops(model: FoldModel, patients: Cohort) -> float:
    """Floating-point operations of a prediction by all members, in 10^9, mean over some patients with tokens."""
    from torch.utils.flop_counter import FlopCounterMode

    for member in model.members:
        member.requires_grad_(False)  # the counter would look for gradients of what it counts
    asked = [case.patient_id for case in patients.cases if model.spec.reads(case)][:COUNTED]
    counter = FlopCounterMode(display=False)
    with counter:
        model.predict(patients.subset(set(asked)), batch_size=1)
    return round(float(counter.get_total_flops()) / 1e9 / max(1, len(asked)), DECIMALS)


def chosen_folds(params: Params) -> tuple[int, ...]:
    """Folds that trials are averaged over.

    Raises
    ------
    ConfigError
        If `tuning.folds` names one that is not among `folds`.
    """
    unknown = sorted(set(params.tuning.folds) - set(params.folds))
    if unknown:
        raise ConfigError(f"tuning.folds: {unknown} are not among folds {list(params.folds)}")
    return params.tuning.folds or params.folds


def check_metric(params: Params, task: str) -> None:
    """Raise ConfigError if the task or the objective is not one that goes with the other."""
    if task not in params.tasks:
        raise ConfigError(f"no task {task!r}; tasks of params.yaml are {', '.join(params.tasks)}")
    wrong = "auc" if task == SURVIVAL else "c_index"
    if params.tuning.objective == wrong:
        right = "c_index" if task == SURVIVAL else "auc"
        raise ConfigError(f"tuning.objective: {wrong} does not judge {task}; choose validation_loss or {right}")


def concordance(said: pd.DataFrame, cases: list[Case], part: np.ndarray) -> float:
    """Harrell's C of predicted risks within parts; NaN without a comparable pair."""
    follow_up = [case.survival for case in cases if case.survival is not None]
    days, event = np.array([s.days for s in follow_up], float), np.array([s.event for s in follow_up], bool)
    risk, one = said["risk"].to_numpy(float), np.ones((1, len(days)))
    return float(harrell_c(one, days=days, event=event, risk=risk, fold=part)[0])


def area(said: pd.DataFrame, cases: list[Case], part: np.ndarray, task: str, classes: tuple[str, ...]) -> float:
    """Macro AUC of predicted probabilities within parts; NaN if only one class is there."""
    label = np.array([classes.index(case.labels[task]) for case in cases], int)
    probabilities = said[[class_column(name) for name in classes]].to_numpy(float)
    return float(macro_auc(np.ones((1, len(label))), label=label, probabilities=probabilities, fold=part)[0])
