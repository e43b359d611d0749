"""Objective of a trial: inner validation of each fold. The test patients are not among those it is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dml.config.params import Params
from dml.core.errors import ConfigError, InputError
from dml.core.tasks import make_task
from dml.core.types import SURVIVAL, Cohort
from dml.data.cohort_store import CohortStore
from dml.data.patient_reader import Patient
from dml.evaluation.metric_sets import PRIMARY, leading_metric
from dml.evaluation.metrics import unweighted
from dml.experiments.tuning.search_space import Kind
from dml.training.checkpoint import FoldModel
from dml.training.distillation import DistillationTargets
from dml.training.folds import Fold, make_fold
from dml.training.train import distill_student, train_teacher
from dml.training.trainer import EpochCallback
from dml.training.training_result import TrainingResult

N_COUNTED_PATIENTS, GFLOP_DECIMALS = 16, 6
"""Patients whose predictions are counted for the cost, and its decimals."""


class Score(NamedTuple):
    """Quality of a model on a fold, and the cost of a prediction (None where it is no objective)."""

    value: float
    gflops: float | None = None


@dataclass(frozen=True, slots=True)
class CachedTeacher(FoldModel):
    """A trained teacher whose distillation targets are computed once: those of every trial are of the same patients."""

    targets: dict[tuple[int, tuple[tuple[str, int], ...]], dict[str, DistillationTargets]] = field(default_factory=dict)

    def distillation_targets(
        self, patients: Sequence[Patient], member: int, batch_size: int = 16
    ) -> dict[str, DistillationTargets]:
        """Return the targets of one member for some patients."""
        key = member, tuple((patient.patient_id, patient.size) for patient in patients)  # a slide may be hidden
        if key not in self.targets:
            self.targets[key] = FoldModel.distillation_targets(self, patients, member, batch_size)
        return self.targets[key]


@dataclass(frozen=True, slots=True)
class Objective:
    """The training patients of the folds that trials are averaged over and, for a student, the folds' teachers."""

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
        """Select the training patients of each fold; a study of the student needs the teachers of the folds.

        Raises
        ------
        InputError
            If a fold has no validation patient with a target.
        """
        check_objective(params, task, cohort.classes)
        folds = {index: make_fold(cohort, splits, index) for index in tuned_folds(params)}
        for index, fold in folds.items():
            if not any(case.has_target(task) for case in fold.validation().cases):
                problem = f"no validation patient of fold {index} has a {task}"
                raise InputError("splits.parquet", problem, "Raise split.validation_share or use fewer folds")
        return cls(kind, task, params.tuning.objective, folds, teachers or {})

    @classmethod
    def read(cls, params: Params, kind: Kind, task: str) -> "Objective":
        """Read the stores of the current cohort."""
        store = CohortStore.of(params.cohort)
        cohort, splits = store.cohort(params.embed.encoder, params.tiles.mpps), store.splits()
        return cls.of(params, kind, task, cohort, splits, read_teachers(params, task) if kind == "student" else None)

    def score(self, params: Params, fold: int, on_epoch: EpochCallback | None = None) -> Score:
        """Train on one fold and score the model on the fold's validation patients."""
        part = self.folds[fold]
        if self.kind == "teacher":
            trained = train_teacher(part, params, self.task, on_epoch)
        else:
            trained = distill_student(part, params, self.task, self.teachers[fold], on_epoch)
        value = trained.validation_loss if self.metric == "validation_loss" else self._ranking(trained, part)
        costed = params.tuning.second_objective == "gflops"
        return Score(value, count_gflops(trained.model, part.learning) if costed else None)

    def _ranking(self, trained: TrainingResult, fold: Fold) -> float:
        """Score out-of-fold predictions of the training patients; pairs of the same inner fold are compared."""
        task = trained.model.spec.preprocessor.task
        targets = {case.patient_id: task.target_values(case) for case in fold.learning.cases if task.is_known(case)}
        predicted = trained.out_of_fold
        rows = predicted[predicted["patient_id"].isin(targets)].reset_index(drop=True)
        observed = pd.DataFrame([targets[patient] for patient in rows["patient_id"]], columns=[*task.target_columns])
        rows = pd.concat([rows, observed], axis=1).assign(fold=rows["patient_id"].map(fold.inner_fold_of))
        value = float(leading_metric(rows, task.kind, task.classes)(unweighted(len(rows)))[0])
        if not np.isfinite(value):
            problem = f"{self.metric} is not defined on the validation patients of fold {fold.index}"
            raise InputError("splits.parquet", problem, "Set tuning.objective to validation_loss")
        return value


def count_gflops(model: FoldModel, patients: Cohort) -> float:
    """Floating-point operations of a prediction by all members, in 10^9, mean over some patients with tokens."""
    from torch.utils.flop_counter import FlopCounterMode

    for member in model.members:
        member.requires_grad_(False)  # the counter would need gradients of what it counts
    ids = [case.patient_id for case in patients.cases if model.spec.accepts(case)][:N_COUNTED_PATIENTS]
    counter = FlopCounterMode(display=False)
    with counter:
        model.predict(patients.subset(set(ids)), batch_size=1)
    return round(float(counter.get_total_flops()) / 1e9 / max(1, len(ids)), GFLOP_DECIMALS)


def tuned_folds(params: Params) -> tuple[int, ...]:
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


def check_objective(params: Params, task: str, classes: Mapping[str, Sequence[str]] | None = None) -> None:
    """Raise ConfigError if there is no such task, or `tuning.objective` is not a metric of it.

    Of a label without known `classes` (the cohort is read later) the metrics of classes and of numbers pass.
    """
    if task not in params.tasks:
        raise ConfigError(f"no task {task!r}; tasks of params.yaml are {', '.join(params.tasks)}")
    if task == SURVIVAL or classes is not None:
        leading = [PRIMARY[make_task(task, classes or {}).kind]]
    else:
        leading = [PRIMARY["classification"], PRIMARY["regression"]]
    objective = params.tuning.objective
    if objective not in ("validation_loss", *leading):
        choices = " or ".join(["validation_loss", *leading])
        raise ConfigError(f"tuning.objective: {objective} is no metric of {task}; choose {choices}")


def teacher_folder(params: Params, task: str, fold: int) -> Path:
    """Folder in which `dvc repro` leaves the teacher of a fold."""
    return Path("models") / params.cohort / task / "teacher" / f"fold-{fold}"


def read_teachers(params: Params, task: str) -> dict[int, CachedTeacher]:
    """Read the teachers of the folds that trials are averaged over; no trial trains one.

    Raises
    ------
    InputError
        If one is missing or was trained with other parameters.
    """
    teachers = {}
    for fold in tuned_folds(params):
        folder = teacher_folder(params, task, fold)
        if not folder.exists():
            raise InputError(folder, "no teacher to distil", "Train the teachers first: dvc repro")
        teacher = FoldModel.load(folder)
        if (teacher.spec.model, teacher.spec.teacher) != (params.model, params.teacher):
            raise InputError(folder, "trained with other `model` or `teacher` parameters", "Run dvc repro")
        teachers[fold] = CachedTeacher(teacher.spec, teacher.members)
    return teachers
