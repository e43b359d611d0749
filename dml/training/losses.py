"""Losses of the tasks: likelihood of discrete-time hazards, of classes or of numbers, and Cox's partial likelihood.

Losses beside the task are in `dml.training.loss_terms`.

Shape legend: b patients, k classes, time bins, or parameters of a distribution of numbers.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from dml.core.distributions import distribution_of
from dml.core.types import ClassTarget, Kind, SurvivalTarget, Target


class DiscreteTimeHazards:
    """Likelihood of survival: logits of the hazard of each time bin."""

    has_temperature: ClassVar[bool] = True

    def predictions(self, logits: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """Return the hazards."""
        return torch.sigmoid(logits)

    def log_likelihood(self, logits: Float[Tensor, "b k"], target: Any) -> Float[Tensor, "b"]:
        """Return `discrete_time_log_likelihood`."""
        return discrete_time_log_likelihood(logits, target.bin, target.event, target.exposure)

    def divergence(self, p: Float[Tensor, "b k"], q: Float[Tensor, "b k"]) -> Float[Tensor, "b"]:
        """Return KL(p || q) of two predictions, given by their logits: mean over the bins' Bernoulli hazards."""
        bernoulli = torch.sigmoid(p) * (p - q) - functional.softplus(p) + functional.softplus(q)
        return bernoulli.mean(-1)


class ClassProbabilities:
    """Likelihood of classification: logits of the classes."""

    has_temperature: ClassVar[bool] = True

    def predictions(self, logits: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """Return the class probabilities."""
        return torch.softmax(logits, -1)

    def log_likelihood(self, logits: Float[Tensor, "b k"], target: Any) -> Float[Tensor, "b"]:
        """Return the log-probability of the true class."""
        return -functional.cross_entropy(logits, target.label, reduction="none")

    def divergence(self, p: Float[Tensor, "b k"], q: Float[Tensor, "b k"]) -> Float[Tensor, "b"]:
        """Return KL(p || q) of two predictions, given by their logits."""
        log_p, log_q = torch.log_softmax(p, -1), torch.log_softmax(q, -1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)


class NumberDistribution:
    """Likelihood of regression: outputs of quantiles or of a Gaussian, see `dml.core.distributions`."""

    has_temperature: ClassVar[bool] = False

    def predictions(self, logits: Float[Tensor, "b k"]) -> Float[Tensor, "b 3"]:
        """Return point, lower and upper end, in training standard deviations."""
        return distribution_of(logits).predict(logits)

    def log_likelihood(self, logits: Float[Tensor, "b k"], target: Any) -> Float[Tensor, "b"]:
        """Return the log-density of a Gaussian, or minus the pinball loss."""
        return distribution_of(logits).log_likelihood(logits, target.value)

    def divergence(self, p: Float[Tensor, "b k"], q: Float[Tensor, "b k"]) -> Float[Tensor, "b"]:
        """Return the mean squared difference of two predictions: of their points and of the ends of their intervals."""
        return (self.predictions(p) - self.predictions(q)).square().mean(-1)


Likelihood = DiscreteTimeHazards | ClassProbabilities | NumberDistribution
LIKELIHOODS: Mapping[Kind, Likelihood] = {
    "survival": DiscreteTimeHazards(),
    "classification": ClassProbabilities(),
    "regression": NumberDistribution(),
}
"""Likelihood of each kind of task."""


def discrete_time_log_likelihood(
    logits: Float[Tensor, "b k"],
    bins: Int[Tensor, "b"],
    event: Bool[Tensor, "b"],
    exposure: Float[Tensor, "b"] | None = None,
) -> Float[Tensor, "b"]:
    """Log-likelihood of the observed follow-up, hazards h = sigmoid(logits).

    With the `exposure` f, the share of bin j that had passed at the last follow-up (`dml.data.baseline_hazard`), the
    hazard is proportional to the baseline within a bin: f log(1 - h_j) + sum_{i<j} log(1 - h_i), and for a death
    log(-log(1 - h_j)) besides; up to a constant this is the density of continuous time.

    Without it, an event in bin j: log h_j + sum_{i<j} log(1 - h_i); censored in bin j: sum_{i<=j} log(1 - h_i). That is
    common and biased: patients who leave early in a long bin count as its survivors.

    Examples
    --------
    Hazards of 0.5 in both bins: death in the second bin has probability 0.5 * 0.5.

    >>> logits = torch.zeros(1, 2)
    >>> discrete_time_log_likelihood(logits, torch.tensor([1]), torch.tensor([True])).exp().tolist()
    [0.25]
    """
    survived = -functional.softplus(logits)  # log(1 - h)
    past = survived.cumsum(1).gather(1, bins[:, None])[:, 0]
    if exposure is None:
        at = logits.gather(1, bins[:, None])[:, 0]  # log h - log(1 - h)
        return past + torch.where(event, at, torch.zeros_like(at))
    inside = survived.gather(1, bins[:, None])[:, 0]
    died = torch.log((-inside).clamp_min(1e-12))
    return past - (1 - exposure) * inside + torch.where(event, died, torch.zeros_like(died))


def log_likelihood(logits: Float[Tensor, "b k"], target: Target) -> Float[Tensor, "b"]:
    """Log-probability of each patient's target; 0 where it is unknown."""
    return LIKELIHOODS[target.kind].log_likelihood(logits, target).masked_fill(~target.known, 0.0)


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
