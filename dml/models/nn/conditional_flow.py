"""Conditional flow matching: samples of a vector x given a condition c, from noise moved along a learned velocity.

    x_t = (1 - t) eps + t x,  eps ~ N(0, 1)          L = |v(x_t, t, c) - (x - eps)|^2
    dx/dt = v(x, t, c)  from t = 0 (noise) to t = 1 (a sample)

    v(x_t, t, c) = (2t - 1) / (t^2 + (1 - t)^2) x_t + network(x_t, t, c)

The first part of the velocity is the solution for an x of independent standard normal components, so that the network
learns only what differs from it. x must be standardised. Source: Lipman et al. 2023 (ICLR, arXiv 2210.02747), straight
paths.

Shape legend: b patients, d width of x, c width of the condition, s samples, f frequencies.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

FREQUENCIES = 4
"""Sines and cosines by which the network reads the time."""
DRAWS = 32
"""Times and noises drawn for each patient in a training step: the network is small, patients are few."""


class VelocityNetwork(nn.Module):
    """Velocity of x at a time, given a condition."""

    def __init__(self, width: int, condition: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.normalise = nn.LayerNorm(condition)
        self.inner = nn.Linear(width + condition + 2 * FREQUENCIES, hidden)
        self.middle, self.outer = nn.Linear(hidden, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*b d"], t: Float[Tensor, "*b 1"], condition: Float[Tensor, "*b c"]
    ) -> Float[Tensor, "*b d"]:
        """Return the velocity at each x and time."""
        joined = torch.cat([x, self.normalise(condition), time_features(t)], -1)
        hidden = self.dropout(nn.functional.gelu(self.inner(joined)))
        hidden = hidden + self.dropout(nn.functional.gelu(self.middle(hidden)))
        velocity: Tensor = self.outer(hidden)
        return velocity + (2 * t - 1) / (t.square() + (1 - t).square()) * x


def time_features(t: Float[Tensor, "*b 1"]) -> Float[Tensor, "*b f"]:
    """Return sines and cosines of the time, of 1/2 to 4 periods between 0 and 1."""
    angles = t * math.pi * 2.0 ** torch.arange(FREQUENCIES, device=t.device)
    return torch.cat([angles.sin(), angles.cos()], -1)


def flow_matching_loss(
    velocity: nn.Module,
    x: Float[Tensor, "b d"],
    condition: Float[Tensor, "b c"],
    known: Bool[Tensor, "b"],
    draws: int = DRAWS,
) -> Float[Tensor, ""]:
    """Return the mean squared error of the velocity over the patients with a known x; 0 if there is none.

    Parameters
    ----------
    velocity : Module
        From x, time and condition.
    x : Tensor, b d
        Standardised; rows of patients without are ignored.
    condition : Tensor, b c
        What x is predicted from.
    known : Tensor, b
        Whether a patient has an x.
    draws : int
        Times and noises of each patient; times are spread evenly.
    """
    x = torch.where(known[:, None], x, 0.0).expand(draws, -1, -1)
    strata = torch.arange(draws, device=x.device)[:, None, None]
    t = (strata + torch.rand(draws, x.shape[1], 1, device=x.device)) / draws
    noise = torch.randn_like(x)
    predicted = velocity((1 - t) * noise + t * x, t, condition.expand(draws, -1, -1))
    error: Tensor = (predicted - (x - noise)).square().mean((0, 2))
    weight = known.to(error.dtype)
    loss: Tensor = (error * weight).sum() / weight.sum().clamp_min(1.0)
    return loss


def integrate(
    velocity: nn.Module, noise: Float[Tensor, "s d"], condition: Float[Tensor, "b c"], steps: int
) -> Float[Tensor, "s b d"]:
    """Move the same noises to samples for each patient, by Euler steps of equal size.

    Parameters
    ----------
    velocity : Module
        From x, time and condition.
    noise : Tensor, s d
        Where the samples start.
    condition : Tensor, b c
        Of each patient.
    steps : int
        Number of steps.
    """
    x = noise[:, None].expand(-1, len(condition), -1)
    each = condition.expand(len(noise), -1, -1)
    for step in range(steps):
        t = torch.full((*x.shape[:2], 1), step / steps, device=x.device)
        x = x + velocity(x, t, each) / steps
    return x


def antithetic_noise(samples: int, width: int) -> Float[Tensor, "s d"]:
    """Draw normal noise in pairs of opposite sign: of any even number of samples the mean is exactly 0."""
    half = torch.randn(samples // 2, width)
    return torch.cat([half, -half])
