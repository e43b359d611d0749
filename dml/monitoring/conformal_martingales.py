"""Drift of one quantity: a bet against exchangeability of a reference and what arrives after it.

Each new value is ranked among the reference and all values before it. As long as nothing drifts, these ranks are
independent and uniform, whatever the distribution and however small the reference, so that the capital of any bet on
them is a martingale: the chance that it ever reaches 1/α is at most α (Ville). It may be inspected every week.

Sources: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2nd ed. 2022), chapter 8; the bets are the
Simple Jumper of Vovk et al., Retrain or not retrain: conformal test martingales for change-point detection (COPA 2021).

Shape legend: s streams, m values of the reference, n new values in order, b bets.
"""

import numpy as np
from jaxtyping import Float

SLOPES = (-1.8, -0.9, 0.0, 0.9, 1.8)
"""Bets 1 + slope (p - 1/2): that values are low, or high; below 2, so that no single value ruins one."""
JUMP = 0.01
"""Share of the capital that is redistributed among the bets at each value: how soon a bet may change its mind."""


def conformal_p_values(
    reference: Float[np.ndarray, "*s m"], stream: Float[np.ndarray, "*s n"], rng: np.random.Generator
) -> Float[np.ndarray, "*s n"]:
    """Return the rank of each value among the reference and those before it, as a share; ties are broken at random.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> conformal_p_values(np.arange(99.0), np.array([200.0, -1.0]), rng).round(1).tolist()
    [1.0, 0.0]
    """
    random = rng.random(stream.shape)
    seen = np.concatenate([reference, stream], axis=-1)
    n_reference, p_values = reference.shape[-1], np.empty(stream.shape)
    for t in range(stream.shape[-1]):
        before, value = seen[..., : n_reference + t], stream[..., t, None]
        smaller = (before < value).sum(axis=-1)
        equal = (before == value).sum(axis=-1) + 1
        p_values[..., t] = (smaller + random[..., t] * equal) / (n_reference + t + 1)
    return p_values


def log_martingale(p_values: Float[np.ndarray, "*s n"]) -> Float[np.ndarray, "*s n"]:
    """Return the logarithm of the capital after each value."""
    slopes = np.array(SLOPES)
    capital = np.full((*p_values.shape[:-1], len(slopes)), 1 / len(slopes))
    total_log, log_capital = np.zeros(p_values.shape[:-1]), np.empty(p_values.shape)
    for t in range(p_values.shape[-1]):
        capital = (1 - JUMP) * capital + JUMP / len(slopes)  # shares of a capital of one
        capital = capital * (1 + slopes * (p_values[..., t, None] - 0.5))
        total = capital.sum(axis=-1)
        total_log, capital = total_log + np.log(total), capital / total[..., None]
        log_capital[..., t] = total_log
    return log_capital
