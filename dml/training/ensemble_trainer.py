"""Train the ensemble that is one model of one fold: what its members share is fitted once, then each takes its turn."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import nn

from dml import __version__
from dml.config import params as config
from dml.core.device import resolve_device
from dml.core.errors import ConfigError
from dml.core.files import digest
from dml.core.types import Case
from dml.data.batches import Patient, PatientReader
from dml.data.preprocessing import Preprocessor, fit_preprocessor
from dml.models.gene_imputation import GeneImputationStudent
from dml.models.teacher import Teacher
from dml.training.checkpoint import FoldModel, ModelSpec
from dml.training.distillation import DistillationTargets, exchange
from dml.training.distributed import SingleProcess, launch
from dml.training.folds import Fold
from dml.training.fork_map import fork_map
from dml.training.linear_offset import COMBINATIONS, LinearOffset, fit_linear_offset, truth_of
from dml.training.objectives import Objective, StudentObjective
from dml.training.runtime import reproducible
from dml.training.trainer import TrainConfig, fit

log = logging.getLogger(__name__)
Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A fold's model and how its training went, one block of epochs per member."""

    model: FoldModel
    history: pd.DataFrame


class EnsembleTrainer:
    """Trains the members of one model of one fold."""

    def __init__(
        self,
        role: str,
        fold: Fold,
        params: config.Params,
        task: str,
        recipe: TrainConfig,
        kept: Sequence[Case],
        teacher: FoldModel | None = None,
    ) -> None:
        self.role, self.fold, self.params, self.task, self.recipe = role, fold, params, task, recipe
        self.teacher = teacher
        # Fitted on all learning patients of the fold: teacher, student and members share scaling, bins and classes.
        self.preprocessor: Preprocessor = fit_preprocessor(fold.learning, params, task)
        self.turns = {
            c.patient_id: fold.inner_fold_of.get(c.patient_id, i % max(fold.n_inner_folds, 1))
            for i, c in enumerate(fold.learning.cases)
        }
        self.spec = self._spec()
        self.cases = fold.learning.subset({case.patient_id for case in kept})
        read = PatientReader(self.preprocessor, self.cases, self.spec.linear, self.turns)
        self.patients = [read(case) for case in self.cases.cases]
        self.judged = {c.patient_id for c in fold.learning.cases if self.spec.reads(c) and c.has_target(task)}

    def train(self, objective: Callable[[int], Objective]) -> TrainingResult:
        """Train all members, each with the objective of its number."""
        spec = self.spec
        states, histories = zip(*self._members(objective), strict=True)
        model = FoldModel(spec, tuple(self._restored(i, state) for i, state in enumerate(states)))
        seen = self.cases.subset({case.patient_id for case in self.cases.cases if spec.reads(case)})
        risk = model.predict(seen).get("risk", pd.Series(dtype=float))
        if len(risk):
            update = {"train_cutoff": float(risk.median()), "train_risk_deviation": float(risk.std(ddof=0)) or 1.0}
            model = FoldModel(spec.model_copy(update=update), model.members)
        return TrainingResult(model, pd.concat(histories, ignore_index=True))

    def student_objective(self, member: int, exchanged: bool) -> StudentObjective:
        """Return what a member learns: the task and, if there is a teacher, what one of it says of each patient."""
        teacher = self.teacher
        lessons: Mapping[str, DistillationTargets] | None = None
        if teacher is not None:
            read = teacher.reader(self.cases, self.turns)
            lessons = teacher.lessons([read(case) for case in self.cases.cases], member % len(teacher.members))
            if exchanged:
                lessons = exchange(lessons, self.params.seed)
        return StudentObjective(
            self.preprocessor, self.params.distillation, lessons, self.params.optimisation.cox_loss_weight
        )

    def _members(self, objective: Callable[[int], Objective]) -> list[tuple[Weights, pd.DataFrame]]:
        """Train one after the other on several devices, or side by side in processes of the CPU."""
        settings, count = self.recipe.optimisation, self.spec.members
        device, watched = resolve_device(settings.device), self.recipe.on_epoch is not None
        if settings.devices > 1 and not watched:  # a trial that may be pruned has one device; others have the rest
            return [launch(partial(self._member, i, objective), settings.devices, device) for i in range(count)]
        alone = settings.threads > 1 or watched or device.type != "cpu"
        return fork_map(
            lambda i: self._member(i, objective, SingleProcess(device)), count, 1 if alone else settings.workers
        )

    def _member(
        self, index: int, objective: Callable[[int], Objective], team: SingleProcess
    ) -> tuple[Weights, pd.DataFrame]:
        """Train one member; what comes back can be sent between processes."""
        settings = self.params.optimisation
        seed = int(np.random.SeedSequence([self.params.seed, self.fold.index, index]).generate_state(1)[0])
        with reproducible(seed, settings.threads, settings.precision):
            member = self._untrained(index)
            recipe = replace(self.recipe, seed=seed)
            if team.rank:  # the same weights in all of a team, then dropout of their own
                torch.manual_seed(seed + team.rank)
            history = fit(member, objective(index), *self._turn(index), self.preprocessor, recipe, team)
        weights = {name: value.cpu().numpy() for name, value in member.state_dict().items()}
        return weights, history.assign(member=index)

    def _untrained(self, index: int) -> nn.Module:
        member = self.spec.build()
        if isinstance(member, GeneImputationStudent):
            member.adopt(self._teacher_of(index))
            return member
        with torch.no_grad():  # a head that starts from the base rates has only the patients to learn
            member.head.bias.copy_(torch.from_numpy(self.preprocessor.base_logits))
        return member

    def _restored(self, index: int, weights: Weights) -> nn.Module:
        member = self._untrained(index)
        member.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        return member.eval()

    def _teacher_of(self, member: int) -> Teacher:
        if self.teacher is None:
            raise ConfigError("distillation.architecture: gene_imputation needs a teacher")
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

    def _linear(self) -> LinearOffset | None:
        """Fit the linear model that ours start from, on the sources they see."""
        components = self.params.model.linear_offset.components
        wanted = self.preprocessor.kind == "survival" or self.params.model.linear_offset.tasks == "all"
        wanted &= self.role != "student" or self.params.distillation.use_linear_offset
        if not components or not wanted or self.role not in COMBINATIONS or self.fold.n_inner_folds < 2:
            return None
        cases = self.fold.learning.cases
        rows = PatientReader(self.preprocessor, self.fold.learning).rows(cases)
        truth = truth_of(cases, self.preprocessor)
        return fit_linear_offset(
            rows, [self.turns[c.patient_id] for c in cases], COMBINATIONS[self.role], truth, components
        )

    def _spec(self) -> ModelSpec:
        p = self.params
        return ModelSpec(
            role=self.role,
            preprocessor=self.preprocessor,
            model=p.model,
            teacher=p.teacher,
            distillation=p.distillation,
            tiles=p.tiles,
            years=p.evaluation.years,
            members=p.optimisation.ensemble_size,
            seed=p.seed,
            linear=self._linear(),
            training_patient_hashes=tuple(sorted(digest(case.patient_id) for case in self.fold.learning.cases)),
            versions={"dml": __version__, "torch": torch.__version__, "numpy": np.__version__},
        )
