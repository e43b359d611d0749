"""What a student is distilled towards: ``distillation.targets``, ``teacher_members`` and ``patient_weights``.

    fused      z = t(slide, genes)               t: logits and embeddings of a teacher member
    genes      z = t(nothing, genes)             tokens hidden, and the slide in the member's linear offset
    residual   z = t(slide, genes) - LP(slide)   LP: the student's linear reference, cross-fitted; logits alone

Logits are of the member of the student's number (matched), which has not seen the outcomes on which that student is
validated either; or, cross-fitted (mean; residual always), the mean over the members that were not trained on the
patient, so that a target is not fitted to the patient's own outcome (Dao et al. 2021, arXiv 2104.09732). There is no
member for which both hold: a cross-fitted target of one inner fold is of a member that was trained on the others, among
them the one on which the student is validated. Its out-of-fold predictions (epoch, shrinkage, ``dml ablate
--validation``) are then too good; test patients are in neither. Embeddings are always the matching member's:
members do not share a space.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.data.patient_reader import Patient
from dml.training.checkpoint import FoldModel
from dml.training.distillation import DistillationTargets
from dml.training.ensemble_trainer import SharedState

log = logging.getLogger(__name__)


def member_targets(
    teacher: FoldModel,
    shared: SharedState,
    member: int,
    settings: config.Distillation,
    weights: Mapping[str, float],
) -> dict[str, DistillationTargets]:
    """Return the targets of one student member for each of its patients.

    Parameters
    ----------
    teacher : FoldModel
        Of the same fold.
    shared : SharedState
        Of the student.
    member : int
        Number of the student member.
    settings : Distillation
        Which targets.
    weights : mapping
        Patient to the weight of its distillation terms; empty: all count the same.

    Raises
    ------
    ConfigError
        If targets are to be cross-fitted, and some inner fold was held out by no teacher member.
    """
    read, hides_slide = teacher.reader(shared.cases, shared.inner_fold_of), settings.targets == "genes"
    patients = [read(replace(case, bags={}) if hides_slide else case) for case in shared.cases.cases]
    if hides_slide and not any(case.has_expression and not case.has_slide for case in shared.fold.learning.cases):
        log.warning("distillation.targets: genes: the teacher was trained on no patient without a slide")
    targets = teacher.distillation_targets(patients, member % len(teacher.members))
    if settings.is_cross_fitted:
        logits = _cross_fitted_logits(teacher, patients, shared)
        targets = {patient: _with_logits(target, logits.get(patient)) for patient, target in targets.items()}
    if settings.targets == "residual":
        targets = {patient: _beyond(target, shared, patient) for patient, target in targets.items()}
    if weights:
        targets = {
            patient: replace(target, weight=torch.tensor([weights.get(patient, 1.0)]))
            for patient, target in targets.items()
        }
    return targets


def _cross_fitted_logits(teacher: FoldModel, patients: Sequence[Patient], shared: SharedState) -> dict[str, Tensor]:
    """Return the mean logits of the members that did not train on a patient; nothing for one on whom all did.

    A patient of unknown outcome has the mean of all members: none was fitted to it.
    """
    inner_folds, members = shared.fold.n_inner_folds, range(len(teacher.members))
    if inner_folds < 2 or len(members) < inner_folds:
        problem = f"{len(members)} teacher members and {inner_folds} inner folds: some patients were in all trainings"
        remedy = "raise optimisation.ensemble_size, or use distillation.teacher_members: matched"
        raise ConfigError(f"distillation.targets and teacher_members: {problem}; {remedy}")
    task = shared.spec.preprocessor.task
    unknown = {case.patient_id for case in shared.cases.cases if not task.is_known(case)}
    logits: dict[str, list[Tensor]] = {}
    for member in members:
        held_out = {patient for patient, fold in shared.fold.inner_fold_of.items() if fold == member % inner_folds}
        chosen = [patient for patient in patients if patient.patient_id in held_out | unknown]
        for name, target in teacher.distillation_targets(chosen, member).items():
            logits.setdefault(name, []).append(target.logits)
    return {patient: torch.stack(each).mean(0) for patient, each in logits.items()}


def _with_logits(target: DistillationTargets, logits: Tensor | None) -> DistillationTargets:
    """Exchange the logits; without any the patient has no target."""
    if logits is None:
        return replace(target, has_target=torch.zeros_like(target.has_target))
    return replace(target, logits=logits)


def _beyond(target: DistillationTargets, shared: SharedState, patient: str) -> DistillationTargets:
    """Return what is left of a target beside the student's linear reference, which says nothing where it is absent."""
    reference = torch.zeros_like(target.logits)
    if shared.reference is not None:
        reference = reference + torch.from_numpy(shared.reference.predictions[patient])
    return replace(target, embeddings={}, logits=target.logits - reference, reference=reference)
