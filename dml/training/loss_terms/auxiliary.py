"""Auxiliary labels: other labels of the training patients are predicted beside the task."""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.training.loss_terms.registry import LossInputs, loss_term
from dml.training.losses import task_loss


@loss_term("auxiliary", model="student", key="auxiliary_weight", label="auxiliary labels")
@loss_term("auxiliary", model="teacher", key="auxiliary_weight", label="auxiliary labels")
def auxiliary_loss(inputs: LossInputs) -> Float[Tensor, ""] | None:
    """Return the mean over the auxiliary labels of their negative log-likelihood."""
    batch, output = inputs.batch, inputs.output
    if not batch.auxiliary:
        return None
    return torch.stack([task_loss(output.auxiliary[name], target) for name, target in batch.auxiliary.items()]).mean()
