"""Likelihood of each kind of task: discrete-time hazards, classes, numbers; with its predictions and divergence.

Shape legend: b patients, k classes, time bins, or parameters of a distribution of numbers.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from dml.core.distributions import distribution_of
from dml.core.types import Kind, Target


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
