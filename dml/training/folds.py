"""Teach and distil one fold, and train the baselines beside: who is learnt from, and nothing fitted on anyone else."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from dml import __version__, config
from dml.errors import InputError
from dml.models.baselines.deep import registry
from dml.training.batches import Patient, PatientReader
from dml.training.bundle import FoldModel, Role, Spec
from dml.training.distillation import Lesson
from dml.training.loop import Recipe, fit, reproducible
from dml.training.objectives import Objective, StudentObjective, TaskObjective, TeacherObjective
from dml.training.preparation import SURVIVAL, Preparation, fit_preparation
from dml.types import Case, Cohort

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fold:
    """The learning parts of one fold; the test patients are deliberately not here."""

    index: int
    training: Cohort
    validation: Cohort


@dataclass(frozen=True, slots=True)
class Trained:
    """A fold's model and how its training went, one block of epochs per member."""

    model: FoldModel
    history: pd.DataFrame


def fold_of(cohort: Cohort, splits: pd.DataFrame, index: int) -> Fold:
    """Cut the learning parts of a fold out of a cohort.

    Raises
    ------
    InputError
        If the splits do not have this fold.
    """
    rows = splits[splits["fold"] == index]
    if rows.empty:
        raise InputError("splits.parquet", f"no fold {index}", "Set folds in params.yaml and run dvc repro split")
    return Fold(index, cohort.only(_ids(rows, "train")), cohort.only(_ids(rows, "validation")))


def held_out(cohort: Cohort, splits: pd.DataFrame, index: int) -> Cohort:
    """Cut the test patients of a fold out of a cohort: for prediction only."""
    return cohort.only(_ids(splits[splits["fold"] == index], "test"))


def teach(fold: Fold, params: config.Params, task: str) -> Trained:
    """Train the teacher of one fold on every patient with a slide and a target (and, if so set, no transcriptome)."""
    kept = [c for c in fold.training.cases if _has_slide(c) and _has_target(c, task)]
    if not params.teacher.unpaired:
        kept = [c for c in kept if c.expression is not None]
    recipe = Recipe(
        params.optimisation,
        seed=0,
        coordination=params.teacher.coordination,
        token_dropout=params.model.token_dropout,
        modality_dropout=params.teacher.modality_dropout,
    )
    learner = _Learner("teacher", fold, params, task, recipe, _restricted(fold.training, kept))
    return learner.train(lambda member: TeacherObjective(learner.preparation, params.teacher))


def distil(fold: Fold, params: config.Params, task: str, teacher: FoldModel | None) -> Trained:
    """Train the student of one fold.

    It learns the task from patients with slide and label, and what the teacher says from patients with slide and
    transcriptome; with `distillation.unpaired` off, only from those with all three. Member i of the student is
    distilled from member i of the teacher. Without a teacher this is the undistilled student: same patients with a
    target, task loss only.
    """
    kept = [c for c in fold.training.cases if _has_slide(c) and (_has_target(c, task) or _teachable(c, teacher))]
    if not params.distillation.unpaired:
        kept = [c for c in kept if c.expression is not None and _has_target(c, task)]
    recipe = Recipe(params.optimisation, seed=0, token_dropout=params.model.token_dropout)
    learner = _Learner("student", fold, params, task, recipe, _restricted(fold.training, kept))
    return learner.train(lambda member: learner.student_objective(teacher, member))


def train_baseline(fold: Fold, params: config.Params, task: str, name: str) -> Trained | None:
    """Train one deep baseline of one fold, for the task alone, on every patient with a target and what it needs.

    Returns
    -------
    Trained or None
        None if no training or no validation patient with a target has what it needs.

    Raises
    ------
    ConfigError
        If there is no such baseline.
    """
    reads = registry.get(name).reads
    kept = [c for c in fold.training.cases if reads(c) and _has_target(c, task)]
    if not kept or not any(reads(c) and _has_target(c, task) for c in fold.validation.cases):
        return None
    recipe = Recipe(params.optimisation, seed=0, token_dropout=params.model.token_dropout)
    learner = _Learner(registry.PREFIX + name, fold, params, task, recipe, _restricted(fold.training, kept))
    return learner.train(lambda member: TaskObjective(learner.preparation))


class _Learner:
    """Trains the members of one model of one fold."""

    def __init__(self, role: Role, fold: Fold, params: config.Params, task: str, recipe: Recipe, cases: Cohort) -> None:
        self.role, self.fold, self.params, self.task, self.recipe = role, fold, params, task, recipe
        # Fitted on the fold's whole training part, so that teacher and student share scaling, bins and classes.
        self.preparation: Preparation = fit_preparation(fold.training, params, task)
        self.spec = self._spec()
        self.training = _read(cases, self.preparation)
        judged = [c for c in fold.validation.cases if self.spec.reads(c) and _has_target(c, task)]
        self.validation = _read(_restricted(fold.validation, judged), self.preparation)
        self.cases = cases
        counts = len(self.training), len(self.validation)
        log.info("%s %s fold %d: %d training, %d validation patients", task, role, fold.index, *counts)

    def train(self, objective: Callable[[int], Objective]) -> Trained:
        spec = self.spec
        members, histories = zip(*(self._member(spec, i, objective(i)) for i in range(spec.members)), strict=True)
        model = FoldModel(spec, tuple(member.cpu() for member in members))
        risk = model.predict(self.cases).get("risk", pd.Series(dtype=float))
        if len(risk):
            update = {"train_cutoff": float(risk.median()), "train_risk_deviation": float(risk.std(ddof=0)) or 1.0}
            model = FoldModel(spec.model_copy(update=update), model.members)
        return Trained(model, pd.concat(histories, ignore_index=True))

    def student_objective(self, teacher: FoldModel | None, member: int) -> StudentObjective:
        lessons: Mapping[str, Lesson] | None = None
        if teacher is not None:
            lessons = teacher.lessons(_read(self.cases, teacher.spec.preparation), member % len(teacher.members))
        return StudentObjective(self.preparation, self.params.distillation, lessons)

    def _member(self, spec: Spec, index: int, objective: Objective) -> tuple[nn.Module, pd.DataFrame]:
        seed = int(np.random.SeedSequence([self.params.seed, self.fold.index, index]).generate_state(1)[0])
        with reproducible(seed, self.params.optimisation.threads):
            member = spec.build()
            with torch.no_grad():  # a head that starts from the base rates has only the patients to learn
                member.head.bias.copy_(torch.from_numpy(self.preparation.base_logits))
            recipe = replace(self.recipe, seed=seed)
            history = fit(member, objective, self.training, self.validation, self.preparation, recipe)
        return member, history.assign(member=index)

    def _spec(self) -> Spec:
        p = self.params
        return Spec(
            role=self.role,
            preparation=self.preparation,
            model=p.model,
            teacher=p.teacher,
            distillation=p.distillation,
            tiles=p.tiles,
            years=p.evaluation.years,
            members=p.optimisation.members,
            seed=p.seed,
            versions={"dml": __version__, "torch": torch.__version__, "numpy": np.__version__},
        )


def _ids(rows: pd.DataFrame, role: str) -> set[str]:
    return set(rows.loc[rows["role"] == role, "patient_id"])


def _has_slide(case: Case) -> bool:
    return any(len(bag) for bag in case.pyramid.values())


def _has_target(case: Case, task: str) -> bool:
    return case.survival is not None if task == SURVIVAL else task in case.labels


def _teachable(case: Case, teacher: FoldModel | None) -> bool:
    return teacher is not None and case.expression is not None


def _restricted(cohort: Cohort, cases: list[Case]) -> Cohort:
    return cohort.only({case.patient_id for case in cases})


def _read(cohort: Cohort, preparation: Preparation) -> list[Patient]:
    read = PatientReader(preparation, cohort)
    return [read(case) for case in cohort.cases]
