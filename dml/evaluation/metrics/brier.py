"""Brier score of survival probabilities under censoring, and its integral over time.

Source: Graf et al., Statistics in Medicine 1999. Shape legend: r weightings, n patients, t horizons.
"""

import numpy as np

from dml.evaluation.metrics import Curves, Days, Mask, Values, Vector, Weights, ratio
from dml.evaluation.metrics.registry import metric


@metric("ibs_null", kind="survival", label="Integrated Brier of Kaplan-Meier", order=60, higher_is_better=False,
        overall_only=True, renamed={"survival": "null_survival"})  # fmt: skip
@metric("ibs", kind="survival", label="Integrated Brier", order=50, higher_is_better=False, headline=True, main=True,
        compared=True, null="ibs_null")  # fmt: skip
def integrated_brier(
    weights: Weights,
    *,
    days: Vector,
    event: Mask,
    survival: Curves,
    horizons: Days,
    uncensored: Vector,
    uncensored_at: Curves,
) -> Values:
    """Brier score averaged over time; 0 is perfect. With `null_survival`, that of a prediction without predictors.

    Examples
    --------
    Two patients without censoring, one dead by day 100 and one alive at day 200, each predicted right or half and half.

    >>> alive = np.array([[0.0, 0.0], [1.0, 1.0]])
    >>> known = {"days": np.array([50, 300]), "event": np.array([True, True]), "horizons": np.array([100, 200])}
    >>> known |= {"uncensored": np.ones(2), "uncensored_at": np.ones((2, 2))}
    >>> integrated_brier(np.ones((1, 2)), survival=alive, **known)
    array([0.])
    >>> integrated_brier(np.ones((1, 2)), survival=np.full((2, 2), 0.5), **known)
    array([0.25])
    """
    terms = brier_terms(
        days=days, event=event, survival=survival, horizons=horizons, uncensored=uncensored,
        uncensored_at=uncensored_at,
    )  # fmt: skip
    return weighted_mean(weights, terms=integrate(terms, horizons))


def brier_terms(
    *, days: Vector, event: Mask, survival: Curves, horizons: Days, uncensored: Vector, uncensored_at: Curves
) -> Curves:
    """Each patient's part of the Brier score at each horizon.

    For a patient who died within the horizon survival should be 0, weighted by ``1 / G(days)``; for one who lived past
    it 1, weighted by ``1 / G(horizon)``; a patient censored before the horizon counts 0.
    """
    died = event[:, None] & (days[:, None] <= horizons)
    alive = days[:, None] > horizons
    wrong_if_dead = survival**2 * _inverse(uncensored)[:, None]
    wrong_if_alive = (1 - survival) ** 2 * _inverse(uncensored_at)
    return np.asarray(died * wrong_if_dead + alive * wrong_if_alive)


def integrate(terms: Curves, horizons: Days) -> Vector:
    """Average each patient's part over time by the trapezoidal rule between the first and the last horizon."""
    if terms.shape[1] == 1:
        return np.asarray(terms[:, 0])
    return np.asarray(np.trapezoid(terms, horizons, axis=1) / (horizons[-1] - horizons[0]))


def weighted_mean(weights: Weights, *, terms: Vector) -> Values:
    """Mean of the patients' parts: the Brier score, or the integrated one."""
    return ratio(weights @ terms, weights.sum(axis=1))


def _inverse(probability: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(ratio(np.ones(1), probability)))
