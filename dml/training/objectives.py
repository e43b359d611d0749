"""The objective of a training: the task's loss, plus the weighted loss terms of the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dml.config import params as config
from dml.core.types import Batch, ModelOutput
from dml.data.preprocessing import Preprocessor
from dml.training.distillation import DistillationTargets
from dml.training.loss_terms.registry import LossInputs, Model, check_loss_weights, loss_terms
from dml.training.losses import task_loss
from dml.training.runtime import to_device


@dataclass(frozen=True, slots=True)
class Losses:
    """The task's loss and the weighted terms by name; only the task's gradient is coordinated."""

    task: Tensor
    terms: Mapping[str, Tensor]

    def scale(self, share: float) -> "Losses":
        """Return the share that some of a step's patients have in its mean."""
        if share == 1:
            return self
        return Losses(self.task * share, {name: value * share for name, value in self.terms.items()})


Objective = Callable[[Batch, ModelOutput], Losses]
"""From a batch and the model's output for it to losses."""


class TaskObjective:
    """The task's loss and the terms of a model; without a model the task alone, as for baselines.

    Parameters
    ----------
    preprocessor : Preprocessor
        Task and class weights.
    params : Params
        Weights of the terms.
    model : str, optional
        "teacher" or "student".
    targets : mapping, optional
        Patient to the teacher's targets, for the student.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        params: config.Params,
        model: Model | None = None,
        targets: Mapping[str, DistillationTargets] | None = None,
    ) -> None:
        check_loss_weights(params)
        self._params, self._task, self._targets = params, preprocessor.task, targets
        self._class_weights = torch.from_numpy(preprocessor.class_weights) if preprocessor.task.classes else None
        terms = [] if model is None else loss_terms(model)
        self._terms = [(term, term.weight(params)) for term in terms if term.weight(params)]

    def __call__(self, batch: Batch, output: ModelOutput) -> Losses:
        """Compute the losses of one batch; terms that do not apply are left out."""
        targets = None
        if self._targets is not None:
            stacked = DistillationTargets.stack([self._targets[patient] for patient in batch.patient_ids])
            targets = to_device(stacked, output.logits.device)
        inputs = LossInputs(batch, output, self._params, self._task.kind, targets, self._task.name)
        terms: dict[str, Tensor] = {}
        for term, weight in self._terms:
            value = term.compute(inputs)
            if value is not None:
                terms[term.name] = weight * value
        cox_weight = self._params.optimisation.cox_loss_weight
        return Losses(task_loss(output.logits, batch.target, self._class_weights, cox_weight), terms)
