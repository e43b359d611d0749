"""Losses of the tasks: the likelihoods of `dml.models.likelihoods`, and Cox's partial likelihood.

Losses beside the task are in `dml.training.loss_terms`.

Shape legend: b patients, k classes, time bins, or parameters of a distribution of numbers.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from dml.core.types import ClassTarget, SurvivalTarget, Target
from dml.models.likelihoods import log_likelihood


def task_loss(
    logits: Float[Tensor, "b k"],
    target: Target,
    class_weights: Float[Tensor, "k"] | None = None,
    cox_weight: float = 0.0,
) -> Float[Tensor, ""]:
    """Negative log-likelihood, mean over the patients with a known target (0 if there is none), by class weight.

    Parameters
    ----------
    logits : Tensor, b k
        Of hazards or classes, or parameters of a distribution.
    target : SurvivalTarget, ClassTarget or NumberTarget
        What was observed.
    class_weights : Tensor, k, optional
        Weights of the classes.
    cox_weight : float
        Share of Cox's partial likelihood in the loss of a survival task.

    Examples
    --------
    >>> target = ClassTarget(torch.tensor([1, 0]), torch.tensor([True, False]))
    >>> round(float(task_loss(torch.zeros(2, 2), target)), 4)
    0.6931
    """
    likelihood = _negative_log_likelihood(logits, target, class_weights)
    if not cox_weight or not isinstance(target, SurvivalTarget):
        return likelihood
    risk = log_cumulative_hazard(logits)
    partial = cox_loss(risk[target.known], target.days[target.known], target.event[target.known])
    return (1 - cox_weight) * likelihood + cox_weight * partial


def _negative_log_likelihood(logits: Tensor, target: Target, class_weights: Tensor | None) -> Tensor:
    weights = target.known.to(logits.dtype)
    if class_weights is not None and isinstance(target, ClassTarget):
        weights = weights * class_weights.to(weights.device)[target.label]
    return -(weights * log_likelihood(logits, target)).sum() / weights.sum().clamp_min(1e-6)


def log_cumulative_hazard(logits: Float[Tensor, "b k"]) -> Float[Tensor, "b"]:
    """Risk score log(-log S) at the end of the last bin, hazards h = sigmoid(logits)."""
    return torch.log(functional.softplus(logits).sum(1).clamp_min(1e-12))


def cox_loss(risk: Float[Tensor, "b"], days: Float[Tensor, "b"], event: Bool[Tensor, "b"]) -> Float[Tensor, ""]:
    """Negative log partial likelihood (Cox 1972, ties by Breslow), mean over the events of the batch; 0 without one.

    Examples
    --------
    Two patients of equal risk: the first to die was one of two at risk.

    >>> loss = cox_loss(torch.zeros(2), torch.tensor([1.0, 2.0]), torch.tensor([True, False]))
    >>> round(float(loss), 4)
    0.6931
    """
    at_risk = days[None, :] >= days[:, None]
    log_sum = torch.logsumexp(risk[None, :].masked_fill(~at_risk, -torch.inf), dim=1)
    observed = event.to(risk.dtype)
    return (observed * (log_sum - risk)).sum() / observed.sum().clamp_min(1.0)
