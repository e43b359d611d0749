"""Diagonal Gaussians, and the product of several with the standard normal prior (Wu and Goodman 2018, 1802.05335).

    precision = 1 + sum_m 1 / v_m,  mean = (sum_m m_m / v_m) / precision

Shape legend: b patients, d width of the latent code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MAX_LOG_VARIANCE = 6.0
"""Logarithms of variances are clipped to this, on both sides."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Means and logarithms of variances."""

    mean: Float[Tensor, "b d"]
    log_variance: Float[Tensor, "b d"]

    @classmethod
    def of(cls, parameters: Float[Tensor, "b _"]) -> "Gaussian":
        """Read means and logarithms of variances, side by side."""
        mean, log_variance = parameters.chunk(2, dim=1)
        return cls(mean, log_variance.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE))

    @classmethod
    def standard_like(cls, mean: Float[Tensor, "b d"]) -> "Gaussian":
        """Return standard normals of the same shape."""
        return cls(torch.zeros_like(mean), torch.zeros_like(mean))

    def sample(self) -> Float[Tensor, "b d"]:
        """Draw a code, differentiable in mean and variance."""
        return self.mean + torch.randn_like(self.mean) * (self.log_variance / 2).exp()

    def select(self, rows: Tensor) -> "Gaussian":
        """Return the Gaussians of some patients."""
        return Gaussian(self.mean[rows], self.log_variance[rows])

    def divergence(self, other: "Gaussian") -> Float[Tensor, "b"]:
        """Return KL(self || other), mean over the dimensions.

        Examples
        --------
        >>> one = Gaussian(torch.ones(1, 2), torch.zeros(1, 2))
        >>> one.divergence(Gaussian.standard_like(one.mean)).tolist(), one.divergence(one).tolist()
        ([0.5], [0.0])
        """
        ratio = self.log_variance - other.log_variance
        distance = (self.mean - other.mean).square() / other.log_variance.exp()
        return (ratio.exp() + distance - 1 - ratio).mean(1) / 2


def product_of_experts(experts: Sequence[Gaussian]) -> Gaussian:
    """Return the normalised product of the standard normal and some experts.

    Examples
    --------
    >>> one = Gaussian(torch.full((1, 1), 3.0), torch.zeros(1, 1))
    >>> both = product_of_experts([one, one])
    >>> both.mean.tolist(), round(float(both.log_variance.exp()), 4)
    ([[2.0]], 0.3333)
    """
    precisions = [(-expert.log_variance).exp() for expert in experts]
    precision = torch.stack(precisions).sum(0) + 1
    mean = torch.stack([expert.mean * p for expert, p in zip(experts, precisions, strict=True)]).sum(0) / precision
    return Gaussian(mean, -precision.log())
