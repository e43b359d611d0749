"""Patient bootstrap: intervals of a metric, and of the paired difference of two.

Patients are drawn with replacement within their test fold, all their rows together, and every metric and model of a
report uses the same draws, so differences are paired. Source: Efron and Tibshirani, An Introduction to the Bootstrap,
1993 (percentile interval, chapter 13). Shape legend: r resamples, n patients.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from dml.evaluation.metrics import Metric, unweighted

RESAMPLES_AT_ONCE = 256
"""Resamples evaluated at once: enough for fast products, little enough for the cache."""
MAX_UNDEFINED_SHARE = 0.05
"""Share of resamples in which a metric may be undefined before it is not reported."""
N_DECIMALS = 6
"""Decimals of numbers in JSON: none of them differs between machines."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Return value, ci_low and ci_high, rounded."""
        return {"value": rounded(self.value), "ci_low": rounded(self.low), "ci_high": rounded(self.high)}


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference, its interval, and the two-sided bootstrap p-value of no difference."""

    value: float
    low: float
    high: float
    p: float

    def to_json(self) -> dict[str, float | None]:
        """Return difference, ci_low, ci_high and p, rounded."""
        ends = {"ci_low": rounded(self.low), "ci_high": rounded(self.high)}
        return {"difference": rounded(self.value), **ends, "p": rounded(self.p)}


def wilson_interval(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share (JASA 1927), inside 0 to 1 for shares of 0 and 1, too.

    Examples
    --------
    >>> [round(end, 3) for end in wilson_interval(3, 10)]
    [0.108, 0.603]
    """
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def rounded(value: float) -> float | None:
    """Round to `N_DECIMALS`; None for what is not finite, and no negative zero."""
    return round(float(value), N_DECIMALS) + 0.0 if math.isfinite(value) else None


def bootstrap_weights(fold: Int[np.ndarray, "n"], resamples: int, seed: int) -> Int[np.ndarray, "r n"]:
    """Draw how often each patient is in each resample; every fold keeps its size.

    Parameters
    ----------
    fold : [n]
        The test fold of each patient, patients in a fixed order.
    resamples : int
        Rows to draw.
    seed : int
        Equal seeds give equal draws.
    """
    random = np.random.default_rng(np.random.SeedSequence([seed, len(fold)]))
    weights = np.zeros((resamples, len(fold)), np.int32)
    for value in np.unique(fold):
        members = np.flatnonzero(fold == value)
        equal = np.full(len(members), 1 / len(members))
        weights[:, members] = random.multinomial(len(members), equal, size=resamples)
    return weights


def evaluate_resamples(metric: Metric, weights: Real[np.ndarray, "r n"]) -> Float[np.ndarray, "r"]:
    """Evaluate a metric on many weightings, a few hundred at a time."""
    starts = range(0, len(weights), RESAMPLES_AT_ONCE)
    parts = [metric(weights[start : start + RESAMPLES_AT_ONCE]) for start in starts]
    return np.concatenate(parts) if parts else np.zeros(0)


def estimate(metric: Metric, weights: Real[np.ndarray, "r n"], confidence: float) -> Estimate | None:
    """Return a metric's value on all patients and its percentile interval; None where it is not defined.

    Examples
    --------
    >>> def mean(weights):
    ...     return weights @ np.array([1.0, 2.0, 3.0, 4.0]) / weights.sum(axis=1)
    >>> weights = bootstrap_weights(np.zeros(4, int), resamples=200, seed=1)
    >>> estimate(mean, weights, confidence=0.95).to_json()
    {'value': 2.5, 'ci_low': 1.74375, 'ci_high': 3.5}
    """
    value = float(metric(unweighted(weights.shape[1]))[0])
    return _percentile_interval(value, evaluate_resamples(metric, weights), confidence)


def difference(one: Metric, other: Metric, weights: Real[np.ndarray, "r n"], confidence: float) -> Difference | None:
    """Return ``one - other`` on the same patients and the same draws; None where either is not defined.

    The p-value is twice the smaller share of resamples on either side of zero (ties on both), never below
    ``2 / (r + 1)``.

    Examples
    --------
    >>> def better(weights):
    ...     return weights @ np.array([0.9, 0.8, 0.9, 0.8]) / weights.sum(axis=1)
    >>> def worse(weights):
    ...     return weights @ np.array([0.8, 0.7, 0.8, 0.7]) / weights.sum(axis=1)
    >>> paired = difference(better, worse, bootstrap_weights(np.zeros(4, int), 199, seed=1), confidence=0.95)
    >>> round(paired.value, 3), round(paired.low, 3), round(paired.p, 3)
    (0.1, 0.1, 0.01)
    """
    once = unweighted(weights.shape[1])
    value = float(one(once)[0] - other(once)[0])
    differences = evaluate_resamples(one, weights) - evaluate_resamples(other, weights)
    interval = _percentile_interval(value, differences, confidence)
    if interval is None:
        return None
    p = two_sided_p(differences[np.isfinite(differences)])
    return Difference(interval.value, interval.low, interval.high, p)


def two_sided_p(differences: Float[np.ndarray, "r"]) -> float:
    """Bootstrap p-value that the resampled differences are centred on zero."""
    below, above = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1)))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values of several comparisons (Holm, Scandinavian Journal of Statistics 1979)."""
    adjusted, largest = {}, 0.0
    for rank, (name, value) in enumerate(sorted(p.items(), key=lambda item: (item[1], item[0]))):
        largest = max(largest, min(1.0, (len(p) - rank) * value))
        adjusted[name] = largest
    return adjusted


def _percentile_interval(value: float, resampled: np.ndarray, confidence: float) -> Estimate | None:
    finite = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(resampled) or len(finite) < (1 - MAX_UNDEFINED_SHARE) * len(resampled):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
