"""Distributions of a predicted number, by the outputs of a network: three quantiles, or a Gaussian.

    quantile  (c, a, b): median c, 10 % quantile c - softplus(a), 90 % quantile c + softplus(b), which cannot cross
    gaussian  (c, a):    mean c, standard deviation softplus(a)

The first output is the point, so that whatever is added to it (a linear offset) moves the distribution as a whole. The
pinball loss of a quantile is the negative log-likelihood of an asymmetric Laplace distribution of unit scale, up to a
constant. Sources: Koenker and Bassett, Econometrica 1978; Koenker and Machado, JASA 1999.

Numbers are in training standard deviations from the training mean. Shape legend: b patients, k outputs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from dml.core.tasks import INTERVAL_ENDS

if TYPE_CHECKING:  # reading tables needs no torch
    from torch import Tensor

Name = Literal["quantile", "gaussian"]
MIN_WIDTH = 1e-3
"""Smallest half interval and smallest standard deviation, in training standard deviations."""
GAUSSIAN_END = 1.2815515655446004
"""Standard deviations from the mean to the 90 % quantile of a Gaussian."""


class Quantiles:
    """Median with the quantiles `INTERVAL_ENDS`, by pinball loss."""

    outputs = 3
    levels = (INTERVAL_ENDS[0], 0.5, INTERVAL_ENDS[1])

    def base(self, values: Float[np.ndarray, n]) -> Float[np.ndarray, 3]:
        """Return the outputs that stand for the quantiles of some numbers: the first bias of a head."""
        low, middle, high = np.quantile(values, self.levels)
        return np.array([middle, _inverse_width(middle - low), _inverse_width(high - middle)])

    def predict(self, outputs: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
        """Return point, lower and upper end of the interval."""
        import torch

        centre = outputs[..., 0]
        return torch.stack([centre, centre - _width(outputs[..., 1]), centre + _width(outputs[..., 2])], -1)

    def log_likelihood(self, outputs: Float[Tensor, "b 3"], value: Float[Tensor, b]) -> Float[Tensor, b]:
        """Return minus the pinball loss, mean over the three quantiles."""
        import torch

        centre, low, high = self.predict(outputs).unbind(-1)
        losses = [pinball_loss(value - q, level) for q, level in zip((low, centre, high), self.levels, strict=True)]
        return -torch.stack(losses).mean(0)

    def log_width(self, outputs: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b"]:
        """Return the logarithm of the interval's width: the entropy, up to a constant."""
        return (_width(outputs[..., 1]) + _width(outputs[..., 2])).log()


class Gaussian:
    """Mean with a standard deviation, by maximum likelihood; the interval is that of the Gaussian."""

    outputs = 2

    def base(self, values: Float[np.ndarray, n]) -> Float[np.ndarray, 2]:
        """Return the outputs that stand for mean and deviation of some numbers: the first bias of a head."""
        return np.array([values.mean(), _inverse_width(float(values.std()))])

    def predict(self, outputs: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 3"]:
        """Return point, lower and upper end of the interval."""
        import torch

        centre, half = outputs[..., 0], GAUSSIAN_END * _width(outputs[..., 1])
        return torch.stack([centre, centre - half, centre + half], -1)

    def log_likelihood(self, outputs: Float[Tensor, "b 2"], value: Float[Tensor, b]) -> Float[Tensor, b]:
        """Return the log-density."""
        deviation = _width(outputs[..., 1])
        standardised = (value - outputs[..., 0]) / deviation
        return -standardised.square() / 2 - deviation.log() - math.log(2 * math.pi) / 2

    def log_width(self, outputs: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b"]:
        """Return the logarithm of the standard deviation: the entropy, up to a constant."""
        return _width(outputs[..., 1]).log()


Distribution = Quantiles | Gaussian
_BY_NAME: dict[Name, Distribution] = {"quantile": Quantiles(), "gaussian": Gaussian()}
_BY_OUTPUTS: dict[int, Distribution] = {each.outputs: each for each in _BY_NAME.values()}


def distribution(name: Name) -> Distribution:
    """Return a distribution by its name in ``optimisation.regression_loss``."""
    return _BY_NAME[name]


def distribution_of(outputs: Tensor) -> Distribution:
    """Return the distribution that a network's outputs are of: their number tells."""
    return _BY_OUTPUTS[outputs.shape[-1]]


def pinball_loss(error: Float[Tensor, "*b"], level: float) -> Float[Tensor, "*b"]:
    """Pinball loss of errors (number less predicted quantile): lowest in expectation at the quantile `level`.

    Examples
    --------
    >>> import torch
    >>> pinball_loss(torch.tensor([1.0, -1.0]), 0.9).tolist()
    [0.8999999761581421, 0.10000000149011612]
    """
    import torch

    return torch.maximum(level * error, (level - 1) * error)


def _width(raw: Tensor) -> Tensor:
    from torch.nn.functional import softplus

    return softplus(raw) + MIN_WIDTH


def _inverse_width(width: float) -> float:
    return float(np.log(np.expm1(max(width - MIN_WIDTH, MIN_WIDTH))))
