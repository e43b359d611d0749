"""Train the ensemble that is one model of one fold: what its members share is fitted once, then each is trained."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import nn

from dml import __version__
from dml.config import params as config
from dml.core.device import resolve_device, torch_threads
from dml.core.files import digest
from dml.core.fork_map import fork_map
from dml.core.types import Case, Cohort, Source
from dml.data.clinical_inputs import ClinicalInputs
from dml.data.patient_reader import Patient, PatientReader
from dml.data.preprocessing import Preprocessor
from dml.linear_models.fit_programs import fit_programs
from dml.models import registry
from dml.models.multi_scale import BranchModel
from dml.training.checkpoint import FoldModel, ModelSpec
from dml.training.cross_fitted_epoch import cross_stop
from dml.training.distributed import SingleProcess, launch
from dml.training.fit_offset import SOURCES, fit_linear_offset, read_outcomes
from dml.training.folds import Fold
from dml.training.objectives import Objective
from dml.training.out_of_fold import LinearReference, OutOfFold, shrink, variance_ratio
from dml.training.runtime import reproducible
from dml.training.trainer import TrainConfig, Trainer
from dml.training.training_result import TrainingResult

log = logging.getLogger(__name__)
Weights = Mapping[str, np.ndarray]
MemberResult = tuple[Weights, pd.DataFrame, Mapping[str, np.ndarray]]
"""Weights and history of one member, and its logits for each patient that it was validated on."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """All that the members of an ensemble share, fitted once.

    Attributes
    ----------
    spec : ModelSpec
        Architecture, preprocessing, and the linear offset where it is added in training.
    reference : LinearReference or None
        The linear model that the trained network is weighed against.
    fold : Fold
        Its patients and inner folds.
    cases : Cohort
        The patients to train on and to validate with.
    inner_fold_of : mapping
        Inner fold of every patient, also of those who are never validated on.
    """

    spec: ModelSpec
    reference: LinearReference | None
    fold: Fold
    cases: Cohort
    inner_fold_of: Mapping[str, int]

    def split(self, patients: Sequence[Patient], member: int) -> tuple[list[Patient], list[Patient]]:
        """Return the training and the validation patients of a member; validated are those with a known target."""
        validated = {case.patient_id for case in self.fold.validation(member).cases}
        task = self.spec.preprocessor.task
        with_target = {c.patient_id for c in self.fold.learning.cases if self.spec.accepts(c) and task.is_known(c)}
        training = [p for p in patients if p.patient_id not in validated]
        validation = [p for p in patients if p.patient_id in validated & with_target]
        counts = task.name, self.spec.name, self.fold.index, member, len(training), len(validation)
        log.info("%s %s fold %d member %d: %d training, %d validation patients", *counts)
        return training, validation


def fit_shared(
    name: str, fold: Fold, params: config.Params, task: str, cases: Sequence[Case], others: Collection[str] = ()
) -> SharedState:
    """Fit what the members share: preprocessing and linear offset, on all training patients of the fold.

    Teacher, student and members have the same scaling, bins and classes.

    Parameters
    ----------
    name : str
        Key of the model registry.
    fold : Fold
        Patients and inner folds.
    params : Params
        The parameters.
    task : str
        "survival", or a label.
    cases : sequence of Case
        The patients to train on and to validate with.
    others : collection of str
        Digests of the ids of patients that initial weights or targets were learned from.
    """
    preprocessor = Preprocessor.fit(fold.learning, params, task)
    entry = registry.entry(name)
    if params.distillation.zoom is not None and entry.family == "ours" and "genes" not in entry.inputs:
        preprocessor = preprocessor.model_copy(update={"pooled_mpps": preprocessor.mpps[-1:]})  # nor do linear models
    inner_fold_of = {
        c.patient_id: fold.inner_fold_of.get(c.patient_id, i % max(fold.n_inner_folds, 1))
        for i, c in enumerate(fold.learning.cases)
    }
    if params.inputs.clinical and entry.family == "ours" and "genes" not in entry.inputs:
        inputs = params.inputs
        clinical = ClinicalInputs.fit(fold.learning, inputs.clinical, task, inputs.clinical_dropout)
        preprocessor = preprocessor.model_copy(update={"clinical": clinical})
    if params.distillation.program_weight and entry.family == "ours" and "genes" not in entry.inputs:
        programs = fit_programs(fold.learning, preprocessor, inner_fold_of)
        preprocessor = preprocessor.model_copy(update={"programs": programs})
    reference = _fit_reference(name, fold, params, preprocessor, inner_fold_of)
    spec = ModelSpec(
        name=name,
        preprocessor=preprocessor,
        model=params.model,
        teacher=params.teacher,
        distillation=params.distillation,
        tiles=params.tiles,
        embed=config.Embed(**params.embed.model_dump(include={"precision", "runtime", "stain_normalisation"})),
        years=params.evaluation.years,
        members=params.optimisation.ensemble_size,
        seed=params.seed,
        linear_offset=reference.offset if reference and _trains_with_offset(name, params, preprocessor) else None,
        training_patient_hashes=tuple(sorted({*others, *(digest(case.patient_id) for case in fold.learning.cases)})),
        versions={"dml": __version__, "torch": torch.__version__, "numpy": np.__version__},
    )
    return SharedState(spec, reference, fold, fold.learning.subset({case.patient_id for case in cases}), inner_fold_of)


def _trains_with_offset(name: str, params: config.Params, preprocessor: Preprocessor) -> bool:
    """Whether a network is trained with the linear model's prediction added to its logits."""
    for_task = preprocessor.task.kind == "survival" or params.model.linear_offset.tasks == "all"
    return for_task and ("genes" in registry.entry(name).inputs or params.distillation.use_linear_offset)


def _fit_reference(
    name: str, fold: Fold, params: config.Params, preprocessor: Preprocessor, inner_fold_of: Mapping[str, int]
) -> LinearReference | None:
    """Fit the linear reference of our models on the sources they read; None where nothing uses it."""
    settings, entry = params.model.linear_offset, registry.entry(name)
    wanted = params.optimisation.shrinkage is not None or _trains_with_offset(name, params, preprocessor)
    wanted |= params.distillation.targets == "residual" and "genes" not in entry.inputs
    if settings.components == 0 or not wanted or entry.family != "ours" or fold.n_inner_folds < 2:
        return None
    cases = fold.learning.cases
    rows = PatientReader(preprocessor, fold.learning).source_rows(cases)
    outcomes = read_outcomes(cases, preprocessor)
    inner_folds = [inner_fold_of[c.patient_id] for c in cases]
    inputs: tuple[Source, ...] = entry.inputs if preprocessor.clinical is None else (*entry.inputs, "clinical")
    fitted = fit_linear_offset(rows, inner_folds, SOURCES[inputs], outcomes, settings.components)
    if not fitted.models:
        return None
    predictions = fitted(rows, inner_folds)
    return LinearReference(fitted, dict(zip((c.patient_id for c in cases), predictions, strict=True)))


class EnsembleTrainer:
    """Trains the members of one model of one fold.

    Parameters
    ----------
    shared : SharedState
        From `fit_shared`.
    config : TrainConfig
        Settings of each member, whose seed is set here.
    objective : callable
        Number of a member to its objective.
    initialise : callable, optional
        Called with the number of a member and the untrained member, to change its initial weights.
    """

    def __init__(
        self,
        shared: SharedState,
        config: TrainConfig,
        objective: Callable[[int], Objective],
        initialise: Callable[[int, nn.Module], None] | None = None,
    ) -> None:
        self.shared, self.config, self.objective, self.initialise = shared, config, objective, initialise
        read = PatientReader(shared.spec.preprocessor, shared.cases, shared.spec.linear_offset, shared.inner_fold_of)
        self.patients = [read(case) for case in shared.cases.cases]

    def train(self) -> TrainingResult:
        """Train all members; the model knows the median risk of its training patients."""
        spec, cases = self.shared.spec, self.shared.cases
        weights, histories, validated = zip(*self._train_members(), strict=True)
        model = FoldModel(spec, tuple(self._restore(i, member) for i, member in enumerate(weights)))
        model, out_of_fold = self._weigh(
            model, OutOfFold.average(validated, self.patients, self.shared.reference, spec)
        )
        out_of_fold = out_of_fold.correct_intervals()
        spec = model.spec.model_copy(update={"preprocessor": out_of_fold.preprocessor})
        model = FoldModel(spec, model.members)
        accepted = cases.subset({case.patient_id for case in cases.cases if spec.accepts(case)})
        risk = model.predict(accepted).get("risk", pd.Series(dtype=float))
        if len(risk):
            update = {"train_cutoff": float(risk.median()), "train_risk_deviation": float(risk.std(ddof=0)) or 1.0}
            model = FoldModel(spec.model_copy(update=update), model.members)
        history = pd.concat(histories, ignore_index=True)
        return TrainingResult(model, history, out_of_fold.table(spec.years), out_of_fold.loss)

    @torch_threads(1)
    def _weigh(self, model: FoldModel, out_of_fold: OutOfFold) -> tuple[FoldModel, OutOfFold]:
        """Shrink a network towards its linear reference, if it has one and a head of its own.

        A student that imputes genes has the frozen head of its teacher.
        """
        deviation, reference = self.config.optimisation.shrinkage, self.shared.reference
        if deviation is None or reference is None or not isinstance(model.members[0], BranchModel):
            return model, out_of_fold
        shrinkage, seed = out_of_fold.fit(deviation), model.spec.seed
        ratio = variance_ratio(model.heads(self.patients))
        return shrink(model, shrinkage, reference.offset, ratio), out_of_fold.shrunk(deviation, seed)

    def _train_members(self) -> list[MemberResult]:
        """Train one after the other on several devices, or side by side in processes of the CPU."""
        settings, count = self.config.optimisation, self.shared.spec.members
        device, has_callback = resolve_device(settings.device), self.config.on_epoch is not None
        if settings.devices > 1 and not has_callback:  # a trial that may be pruned has one device
            return [launch(partial(self._train_member, i), settings.devices, device) for i in range(count)]
        one_process = settings.threads > 1 or has_callback or device.type != "cpu"
        workers = 1 if one_process else settings.workers
        return fork_map(lambda i: self._train_member(i, SingleProcess(device)), count, workers)

    def _train_member(self, index: int, process: SingleProcess) -> MemberResult:
        """Train one member; the result can be sent between processes."""
        spec, settings = self.shared.spec, self.config.optimisation
        seed = int(np.random.SeedSequence([spec.seed, self.shared.fold.index, index]).generate_state(1)[0])
        with reproducible(seed, settings.threads, settings.precision):
            member = self._build(index)
            if process.rank:  # the same initial weights in all processes, then dropout of its own
                torch.manual_seed(seed + process.rank)
            config = replace(self.config, seed=seed)
            trainer = Trainer(member, self.objective(index), spec.preprocessor, config, process)
            training, validation = self.shared.split(self.patients, index)
            history = trainer.fit(training, validation)
            # on one thread, too: a forked process may not start the parent's threads
            stopped = cross_stop(trainer.validation_logits, trainer.validation_target, spec.seed).numpy()
        weights = {name: value.cpu().numpy() for name, value in member.state_dict().items()}
        validated = dict(zip((p.patient_id for p in validation), stopped, strict=True))
        return weights, history.assign(member=index), validated

    def _build(self, index: int) -> nn.Module:
        member = self.shared.spec.build()
        if isinstance(member, BranchModel):
            with torch.no_grad():  # a head that starts from the base rates
                member.head.bias.copy_(torch.from_numpy(self.shared.spec.preprocessor.base_logits))
        if self.initialise is not None:
            self.initialise(index, member)
        return member

    def _restore(self, index: int, weights: Weights) -> nn.Module:
        member = self._build(index)
        member.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        return member.eval()
