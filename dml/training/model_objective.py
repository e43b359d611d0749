"""The objective of a network with loss terms of its own (`dml.models.model_terms`): the task's loss and these."""

from dml.core.types import Batch, ModelOutput
from dml.training.objectives import Losses, TaskObjective


class ModelTermsObjective(TaskObjective):
    """For registry entries: ``ModelEntry(..., objective=ModelTermsObjective)``."""

    def __call__(self, batch: Batch, output: ModelOutput) -> Losses:
        """Compute the losses of one batch."""
        losses = super().__call__(batch, output)
        return Losses(losses.task, {**losses.terms, **output.terms})
