"""The objective of a network that brings loss terms of its own (`dml.models.model_terms`): the task's loss and these.

A deep baseline asks for it in its registry entry: ``ModelEntry(..., objective=ModelTermsObjective)``.
"""

from dml.config import params as config
from dml.core.types import Batch, ModelOutput
from dml.data.preprocessing import Preprocessor
from dml.training.objectives import Losses, TaskObjective


class ModelTermsObjective:
    """The task's loss, plus the terms that the network computed with its output.

    Parameters
    ----------
    preprocessor : Preprocessor
        Task and class weights.
    params : Params
        The loss of the task.
    """

    def __init__(self, preprocessor: Preprocessor, params: config.Params) -> None:
        self._task = TaskObjective(preprocessor, params)

    def __call__(self, batch: Batch, output: ModelOutput) -> Losses:
        """Compute the losses of one batch."""
        losses = self._task(batch, output)
        return Losses(losses.task, {**losses.terms, **output.terms})
