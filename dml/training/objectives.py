"""What each kind of model is trained for: the task, and what is added to it under its own name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, ModelOutput
from dml.data.preprocessing import Preprocessor
from dml.training.distillation import DistillationTargets, feature_distance, prediction_divergence, taught_mean
from dml.training.losses import (
    distance_correlation,
    expression_consistency,
    inter_magnification_consistency,
    task_loss,
)
from dml.training.runtime import to_device


@dataclass(frozen=True, slots=True)
class Losses:
    """The task's loss and the weighted others, by name; only the task's gradient is coordinated."""

    task: Tensor
    others: Mapping[str, Tensor]

    def scaled(self, share: float) -> "Losses":
        """Return the part that some of a step's patients have in its mean."""
        if share == 1:
            return self
        return Losses(self.task * share, {name: value * share for name, value in self.others.items()})


Objective = Callable[[Batch, ModelOutput], Losses]
"""From a batch and what the model returned for it to losses."""


class TaskObjective:
    """The task alone: what baselines are trained for."""

    def __init__(self, preprocessor: Preprocessor, cox: float = 0.0) -> None:
        self._weights, self._cox = class_weights(preprocessor), cox

    def __call__(self, batch: Batch, branches: ModelOutput) -> Losses:
        """Compute the loss of one batch."""
        return Losses(task_loss(branches.logits, batch.target, self._weights, self._cox), {})


class TeacherObjective:
    """Task, auxiliary labels, inter-magnification consistency, disentangling."""

    def __init__(self, preprocessor: Preprocessor, teacher: config.Teacher, cox: float = 0.0) -> None:
        self._weights, self._cox = class_weights(preprocessor), cox
        self._teacher = teacher

    def __call__(self, batch: Batch, branches: ModelOutput) -> Losses:
        """Compute the losses of one batch; terms that are switched off or do not apply are left out."""
        others = auxiliary_losses(batch, branches, self._teacher.auxiliary_weight)
        if branches.predicted_genes:
            others["consistency"] = self._teacher.consistency_weight * told_consistency(batch, branches)
        elif self._teacher.consistency_weight and self._teacher.use_fusion and len(batch.levels) > 1:
            others["consistency"] = self._teacher.consistency_weight * consistency(batch, branches)
        if self._teacher.disentanglement_weight:
            others["disentangling"] = self._teacher.disentanglement_weight * distance_correlation(
                branches["tumor"], branches["tme"]
            )
        return Losses(task_loss(branches.logits, batch.target, self._weights, self._cox), others)


class StudentObjective:
    """Task, auxiliary labels and distillation; without lessons this is the undistilled student."""

    def __init__(
        self,
        preprocessor: Preprocessor,
        distillation: config.Distillation,
        lessons: Mapping[str, DistillationTargets] | None,
        cox: float = 0.0,
    ) -> None:
        self._weights, self._cox = class_weights(preprocessor), cox
        self._kind = preprocessor.kind
        self._distillation, self._lessons = distillation, lessons

    def __call__(self, batch: Batch, branches: ModelOutput) -> Losses:
        """Compute the losses of one batch."""
        settings = self._distillation
        others = auxiliary_losses(batch, branches, settings.auxiliary_weight)
        if self._lessons is not None:
            lesson = joined([self._lessons[patient] for patient in batch.patient_ids], branches.logits.device)
            if settings.prediction_weight:
                divergence = prediction_divergence(lesson.logits, branches.logits, settings.temperature, self._kind)
                others["distil_predictions"] = settings.prediction_weight * taught_mean(divergence, lesson)
            if settings.feature_weight:
                others["distil_features"] = settings.feature_weight * taught_mean(
                    feature_distance(lesson, branches), lesson
                )
        return Losses(task_loss(branches.logits, batch.target, self._weights, self._cox), others)


def class_weights(preprocessor: Preprocessor) -> Tensor | None:
    """Weights that give every class the same say, fitted on training patients; None for survival."""
    return torch.from_numpy(preprocessor.class_weights) if preprocessor.classes else None


def auxiliary_losses(batch: Batch, branches: ModelOutput, weight: float) -> dict[str, Tensor]:
    """Weighted mean over the auxiliary labels of their negative log-likelihood, by name; empty if there is none."""
    if not weight or not batch.auxiliary:
        return {}
    terms = [task_loss(branches.auxiliary[name], target) for name, target in batch.auxiliary.items()]
    return {"auxiliary": weight * torch.stack(terms).mean()}


def consistency(batch: Batch, branches: ModelOutput) -> Tensor:
    """Inter-magnification consistency, mean over subspaces and over neighbouring magnifications."""
    terms = [
        inter_magnification_consistency(maps[i], maps[i + 1], level)
        for maps in (branches.attention[s] for s in SUBSPACES)
        for i, level in enumerate(batch.levels[:-1])
    ]
    return torch.stack(terms).mean()


def told_consistency(batch: Batch, branches: ModelOutput) -> Tensor:
    """Expression consistency, mean over the subspaces."""
    genes = batch.expression
    terms = [expression_consistency(said, genes[s], genes.present) for s, said in branches.predicted_genes.items()]
    return torch.stack(terms).mean()


def joined(lessons: list[DistillationTargets], device: torch.device) -> DistillationTargets:
    """Stack single-patient lessons into a batch."""
    whole = DistillationTargets(
        *(torch.cat([getattr(x, name) for x in lessons]) for name in ("tumor", "tme", "logits", "given"))
    )
    return to_device(whole, device)
