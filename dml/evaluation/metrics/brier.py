"""Brier score of survival probabilities under censoring, and its integral over time.

Source: Graf et al., Statistics in Medicine 1999. Shape legend: r weightings, n patients, t horizons.
"""

import numpy as np
from jaxtyping import Bool, Float, Real

from dml.evaluation.metrics import ratio


def brier_terms(
    *,
    days: Real[np.ndarray, "n"],
    event: Bool[np.ndarray, "n"],
    survival: Float[np.ndarray, "n t"],
    horizons: Real[np.ndarray, "t"],
    uncensored: Float[np.ndarray, "n"],
    uncensored_at: Float[np.ndarray, "n t"],
) -> Float[np.ndarray, "n t"]:
    """Each patient's part of the Brier score at each horizon.

    Who died within the horizon should have had survival 0 and is weighted by ``1 / G(days)``; who lived past it should
    have had 1 and is weighted by ``1 / G(horizon)``; who was censored before it counts 0.

    Parameters
    ----------
    days, event : [n]
        Follow-up in days, and whether it ended with death.
    survival : [n t]
        Predicted probability to be alive at each horizon.
    horizons : [t]
        Days.
    uncensored, uncensored_at : [n], [n t]
        Probability, estimated on the patient's training fold, to be uncensored at `days` and at each horizon.
    """
    died = event[:, None] & (days[:, None] <= horizons)
    alive = days[:, None] > horizons
    wrong_if_dead = survival**2 * _inverse(uncensored)[:, None]
    wrong_if_alive = (1 - survival) ** 2 * _inverse(uncensored_at)
    return np.asarray(died * wrong_if_dead + alive * wrong_if_alive)


def integrated(terms: Float[np.ndarray, "n t"], horizons: Real[np.ndarray, "t"]) -> Float[np.ndarray, "n"]:
    """Average each patient's part over time by the trapezoidal rule between the first and the last horizon."""
    if terms.shape[1] == 1:
        return np.asarray(terms[:, 0])
    return np.asarray(np.trapezoid(terms, horizons, axis=1) / (horizons[-1] - horizons[0]))


def weighted_mean(weights: Real[np.ndarray, "r n"], *, terms: Float[np.ndarray, "n"]) -> Float[np.ndarray, "r"]:
    """Mean of the patients' parts: the Brier score, or the integrated one."""
    return ratio(weights @ terms, weights.sum(axis=1))


def _inverse(probability: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(ratio(np.ones(1), probability)))
