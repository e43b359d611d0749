"""Shrink a network towards its linear reference, by the evidence of out-of-fold predictions.

    logits = b + a + w_l LP + w_n (h - b)            h: the network's head, LP: the linear model, b: base rates

    a, w_l, w_n = argmin  sum_i -log p(y_i | logits_i) + a' C^-1 a / 2 + ((w_l - 1)^2 + w_n^2) / 2 s^2,   w >= 0

h and LP of each patient are out of fold: of members that were not trained on the patient, at an epoch that was not
chosen on it (`dml.training.cross_fitted_epoch`), and of linear models that were not fitted on it. Without evidence the
weights stay at 1 for the linear model and 0 for the network; a linear model that does not generalise loses its weight,
too, and base rates remain (the network keeps a hundredth, so that its maps are defined). What has been shrunk is a
network of the same architecture: its last layer and its linear offset are multiplied, so that packing, serving and
attribution need not know of it.

Sources: stacked regressions with non-negative weights (Breiman 1996), penalised calibration (van Houwelingen 2000).

Shape legend: n patients, k outputs.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor, nn

from dml.core.types import Kind, Target
from dml.data.linear_offset import LinearOffset
from dml.models.likelihoods import log_likelihood
from dml.models.multi_scale import BranchModel

log = logging.getLogger(__name__)

LEVEL_DEVIATION: Mapping[Kind, float] = {"survival": 0.1, "classification": 0.1, "regression": 1.0}
"""Prior standard deviation of the change of each output's level: base rates hardly move, the width of numbers may."""
SHIFT_DEVIATION: Mapping[Kind, float] = {"survival": 1.0, "classification": 0.0, "regression": 0.0}
"""Prior standard deviation of a change that all outputs share: C = s_a^2 I + s_c^2 11'.

Hazards are convex in the logits: the wider the predictions, the more deaths the same base rates expect."""

MIN_NETWORK = 0.01
"""Least weight of the network: its maps and tokens stay defined, its predictions hardly count."""


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """Weights of a network and of its linear reference, and the change of level of each output (k)."""

    network: float
    linear: float
    level: Float[Tensor, "k"]

    def __call__(
        self, head: Float[Tensor, "n k"], offset: Float[Tensor, "n _"], base: Float[Tensor, "k"]
    ) -> Float[Tensor, "n k"]:
        """Return the logits of patients of whom the network's head and the linear offset are given."""
        return base + self.level + self.linear * offset + self.network * (head - base)

    def apply(self, model: nn.Module, base: Float[Tensor, "k"], variance_ratio: float = 1.0) -> None:
        """Multiply the last layer of a network, in place.

        The weight was fitted to predictions of single members. Their mean varies less, by `variance_ratio`, and has the
        same covariance with the outcome.
        """
        if isinstance(model, BranchModel):
            weight = variance_ratio * self.network
            model.head.shrink(weight, (1 - weight) * base + self.level)

    def apply_to_offset(self, offset: LinearOffset) -> LinearOffset:
        """Return the linear offset with its weight."""
        slopes = {name: self.linear * slope for name, slope in offset.slopes.items()}
        return offset.model_copy(update={"slopes": slopes})


def level_penalty(level: Float[Tensor, "k"], kind: Kind) -> Float[Tensor, ""]:
    """Return a' C^-1 a / 2 of a change of level (a), by the formula of Sherman and Morrison."""
    each, shared = LEVEL_DEVIATION[kind] ** 2, SHIFT_DEVIATION[kind] ** 2
    common = level.sum().square() * shared / (each + len(level) * shared)
    return (level.square().sum() - common) / (2 * each)


def fit_shrinkage(
    head: Float[Tensor, "n k"],
    offset: Float[Tensor, "n _"],
    base: Float[Tensor, "k"],
    target: Target,
    deviation: float,
) -> Shrinkage:
    """Fit the weights to out-of-fold predictions.

    Parameters
    ----------
    head : Tensor, n k
        Logits of the network without its linear offset.
    offset : Tensor, n 1 or n k
        Predictions of the linear reference; zeros where there is none.
    base : Tensor, k
        Logits of the base rates.
    target : Target
        What was observed of the same patients.
    deviation : float
        Prior standard deviation of both weights (s).
    """
    head, offset, base = (x.detach().double() for x in (head, offset, base))
    outputs = len(base)

    def objective(values: Tensor) -> Tensor:
        network, linear, level = values[0], values[1], values[2:]
        logits = base + level + linear * offset + network * (head - base)
        prior = (network.square() + (linear - 1).square()) / (2 * deviation**2)
        prior = prior + level_penalty(level, target.kind)
        return prior - log_likelihood(logits, target).sum()

    def evaluate(x: object) -> tuple[float, object]:
        values = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        loss = objective(values)
        (gradient,) = torch.autograd.grad(loss, values)
        return float(loss.detach()), gradient.numpy()

    bounds = [(MIN_NETWORK, None), (0.0, None), *[(None, None)] * outputs]
    fitted = minimize(evaluate, [0.5, 1.0, *[0.0] * outputs], jac=True, method="L-BFGS-B", bounds=bounds)
    network, linear, *level = (float(value) for value in fitted.x)
    log.info("weights by %d out-of-fold predictions: network %.2f, linear model %.2f", len(head), network, linear)
    return Shrinkage(network, linear, torch.tensor(level, dtype=torch.float32))
