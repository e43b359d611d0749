"""Teach and distil one fold, and train the baselines beside: who is learnt from, and nothing fitted on anyone else."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from dml import __version__, config
from dml.errors import ConfigError, InputError
from dml.models.baselines.deep import registry
from dml.models.generator import Generator
from dml.models.teacher import Teacher
from dml.training.batches import Patient, PatientReader
from dml.training.bundle import FoldModel, Role, Spec
from dml.training.distillation import Lesson, exchange
from dml.training.linear_start import COMBINATIONS, LinearStart, fit_start, truth_of
from dml.training.loop import OnEpoch, Recipe, fit, reproducible
from dml.training.objectives import Objective, StudentObjective, TaskObjective, TeacherObjective
from dml.training.preparation import SURVIVAL, Preparation, fit_preparation
from dml.types import Case, Cohort

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fold:
    """The learning patients of one fold; the test patients are deliberately not here.

    Every model is selected on one inner part of them and trained on the others. Members of an ensemble take turns with
    the parts, so that together they learn from everybody and nobody is judged by a member that has seen him.

    Attributes
    ----------
    index : int
        Number of the fold.
    learning : Cohort
        All of them.
    parts : mapping
        Patient to inner part 0, 1, ...; who is not in it is learnt from and never validated on.
    """

    index: int
    learning: Cohort
    parts: Mapping[str, int]

    @property
    def turns(self) -> int:
        """Inner parts that there are to validate on."""
        return max(self.parts.values(), default=-1) + 1

    def training(self, member: int = 0) -> Cohort:
        """Whom a member learns from."""
        return self.learning.only({c.patient_id for c in self.learning.cases} - self._turn(member))

    def validation(self, member: int = 0) -> Cohort:
        """Whom a member is selected on."""
        return self.learning.only(self._turn(member))

    def _turn(self, member: int) -> set[str]:
        return {patient for patient, part in self.parts.items() if part == member % max(self.turns, 1)}


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
    learning = rows[rows["role"] != "test"]
    turn_takers = learning[learning["part"] >= 0]
    parts = dict(zip(turn_takers["patient_id"], turn_takers["part"].astype(int), strict=True))
    return Fold(index, cohort.only(set(learning["patient_id"])), parts)


def held_out(cohort: Cohort, splits: pd.DataFrame, index: int) -> Cohort:
    """Cut the test patients of a fold out of a cohort: for prediction only."""
    return cohort.only(_ids(splits[splits["fold"] == index], "test"))


def unseen(model: FoldModel, fold: Fold) -> pd.DataFrame:
    """Predict the learning patients of a fold by the members that were selected on them and have not learnt from them.

    With as many members as inner parts that is everybody with a part; with one member, the first part.
    """
    turns = model.turns(fold.turns).items()
    said = [model.predict(fold.validation(turn), members=members, parts=fold.parts) for turn, members in turns]
    return pd.concat(said)


def teach(fold: Fold, params: config.Params, task: str, on_epoch: OnEpoch | None = None) -> Trained:
    """Train the teacher of one fold on every patient with a target and a slide or a transcriptome.

    With `teacher.unpaired` off, only on those who have both.
    """
    unpaired = params.teacher.unpaired
    kept = [c for c in fold.learning.cases if _has_target(c, task) and _has_sources(c, unpaired)]
    recipe = Recipe(
        params.optimisation,
        seed=0,
        coordination=params.teacher.coordination,
        token_dropout=params.model.token_dropout,
        modality_dropout=params.teacher.modality_dropout,
        on_epoch=on_epoch,
    )
    learner = _Learner("teacher", fold, params, task, recipe, kept)
    objective = TeacherObjective(learner.preparation, params.teacher, params.optimisation.cox)
    return learner.train(lambda member: objective)


def distil(
    fold: Fold,
    params: config.Params,
    task: str,
    teacher: FoldModel | None,
    on_epoch: OnEpoch | None = None,
    exchanged: bool = False,
) -> Trained:
    """Train the student of one fold.

    It learns the task from patients with slide and label, and what the teacher says from patients with slide and
    transcriptome; with `distillation.unpaired` off, only from those with all three. Member i of the student is
    distilled from member i of the teacher. Without a teacher this is the undistilled student: same patients with a
    target, task loss only. With `exchanged`, the control, each patient gets the lesson of another.
    """
    kept = [c for c in fold.learning.cases if _has_slide(c) and (_has_target(c, task) or _teachable(c, teacher))]
    if not params.distillation.unpaired:
        kept = [c for c in kept if c.expression is not None and _has_target(c, task)]
    recipe = Recipe(params.optimisation, seed=0, token_dropout=params.model.token_dropout, on_epoch=on_epoch)
    if teacher is None:  # nobody whose genes could be generated
        params = params.model_copy(
            update={"distillation": params.distillation.model_copy(update={"student": "tokens"})}
        )
    learner = _Learner("student", fold, params, task, recipe, kept, teacher)
    return learner.train(lambda member: learner.student_objective(member, exchanged))


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
    kept = [c for c in fold.learning.cases if reads(c) and _has_target(c, task)]
    judged = {c.patient_id for c in kept} & set(fold.parts)
    if not judged or (len(judged) == len(kept) and fold.turns < 2):
        return None
    recipe = Recipe(params.optimisation, seed=0, token_dropout=params.model.token_dropout)
    learner = _Learner(registry.PREFIX + name, fold, params, task, recipe, kept)
    objective = TaskObjective(learner.preparation, params.optimisation.cox)
    return learner.train(lambda member: objective)


class _Learner:
    """Trains the members of one model of one fold."""

    def __init__(
        self,
        role: Role,
        fold: Fold,
        params: config.Params,
        task: str,
        recipe: Recipe,
        kept: Sequence[Case],
        teacher: FoldModel | None = None,
    ) -> None:
        self.role, self.fold, self.params, self.task, self.recipe = role, fold, params, task, recipe
        self.teacher = teacher
        # Fitted on all learning patients of the fold: teacher, student and members share scaling, bins and classes.
        self.preparation: Preparation = fit_preparation(fold.learning, params, task)
        self.turns = {
            c.patient_id: fold.parts.get(c.patient_id, i % max(fold.turns, 1))
            for i, c in enumerate(fold.learning.cases)
        }
        self.spec = self._spec()
        self.cases = fold.learning.only({case.patient_id for case in kept})
        read = PatientReader(self.preparation, self.cases, self.spec.linear, self.turns)
        self.patients = [read(case) for case in self.cases.cases]
        self.judged = {c.patient_id for c in fold.learning.cases if self.spec.reads(c) and _has_target(c, task)}

    def train(self, objective: Callable[[int], Objective]) -> Trained:
        spec = self.spec
        members, histories = zip(*(self._member(spec, i, objective(i)) for i in range(spec.members)), strict=True)
        model = FoldModel(spec, tuple(member.cpu() for member in members))
        seen = self.cases.only({case.patient_id for case in self.cases.cases if spec.reads(case)})
        risk = model.predict(seen).get("risk", pd.Series(dtype=float))
        if len(risk):
            update = {"train_cutoff": float(risk.median()), "train_risk_deviation": float(risk.std(ddof=0)) or 1.0}
            model = FoldModel(spec.model_copy(update=update), model.members)
        return Trained(model, pd.concat(histories, ignore_index=True))

    def student_objective(self, member: int, exchanged: bool) -> StudentObjective:
        teacher = self.teacher
        lessons: Mapping[str, Lesson] | None = None
        if teacher is not None:
            read = teacher.reader(self.cases, self.turns)
            lessons = teacher.lessons([read(case) for case in self.cases.cases], member % len(teacher.members))
            if exchanged:
                lessons = exchange(lessons, self.params.seed)
        return StudentObjective(self.preparation, self.params.distillation, lessons, self.params.optimisation.cox)

    def _member(self, spec: Spec, index: int, objective: Objective) -> tuple[nn.Module, pd.DataFrame]:
        seed = int(np.random.SeedSequence([self.params.seed, self.fold.index, index]).generate_state(1)[0])
        with reproducible(seed, self.params.optimisation.threads):
            member = spec.build()
            if isinstance(member, Generator):
                member.adopt(self._teacher_of(index))
            with torch.no_grad():  # a head that starts from the base rates has only the patients to learn
                if not isinstance(member, Generator):
                    member.head.bias.copy_(torch.from_numpy(self.preparation.base_logits))
            history = fit(member, objective, *self._turn(index), self.preparation, replace(self.recipe, seed=seed))
        return member, history.assign(member=index)

    def _teacher_of(self, member: int) -> Teacher:
        if self.teacher is None:
            raise ConfigError("distillation.student: generated_genes needs a teacher")
        taught = self.teacher.members[member % len(self.teacher.members)]
        if not isinstance(taught, Teacher):
            raise ConfigError(f"a {self.teacher.spec.role} is no teacher")
        return taught

    def _turn(self, member: int) -> tuple[list[Patient], list[Patient]]:
        held = {case.patient_id for case in self.fold.validation(member).cases}
        training = [p for p in self.patients if p.patient_id not in held]
        validation = [p for p in self.patients if p.patient_id in held & self.judged]
        counts = self.task, self.role, self.fold.index, member, len(training), len(validation)
        log.info("%s %s fold %d member %d: %d training, %d validation patients", *counts)
        return training, validation

    def _linear(self) -> LinearStart | None:
        """Fit the linear model that ours start from, on the sources they see."""
        components = self.params.model.linear
        wanted = self.preparation.kind == "survival" or self.params.model.linear_tasks == "all"
        if not components or not wanted or self.role not in COMBINATIONS or self.fold.turns < 2:
            return None
        cases = self.fold.learning.cases
        rows = PatientReader(self.preparation, self.fold.learning).rows(cases)
        truth = truth_of(cases, self.preparation)
        return fit_start(rows, [self.turns[c.patient_id] for c in cases], COMBINATIONS[self.role], truth, components)

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
            linear=self._linear(),
            versions={"dml": __version__, "torch": torch.__version__, "numpy": np.__version__},
        )


def _ids(rows: pd.DataFrame, role: str) -> set[str]:
    return set(rows.loc[rows["role"] == role, "patient_id"])


def _has_sources(case: Case, unpaired: bool) -> bool:
    found = (_has_slide(case), case.expression is not None)
    return any(found) if unpaired else all(found)


def _has_slide(case: Case) -> bool:
    return any(len(bag) for bag in case.pyramid.values())


def _has_target(case: Case, task: str) -> bool:
    return case.survival is not None if task == SURVIVAL else task in case.labels


def _teachable(case: Case, teacher: FoldModel | None) -> bool:
    return teacher is not None and case.expression is not None
