"""Patient bootstrap: how far a number, or the difference of two, would move with other patients.

Patients are drawn with replacement within their test fold, all their rows together, and every metric and model of a
report sees the same draws, so differences are paired. Source: Efron and Tibshirani, An Introduction to the Bootstrap,
1993 (percentile interval, chapter 13). Shape legend: r resamples, n patients.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from dml.evaluation.metrics import Metric, unweighted

CHUNK = 256
"""Resamples evaluated at once: enough for fast products, little enough for the cache."""
MOST_UNDEFINED = 0.05
"""Share of resamples in which a metric may be undefined before it is not reported."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference, its interval, and the two-sided bootstrap p-value of no difference."""

    value: float
    low: float
    high: float
    p: float


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


def evaluated(metric: Metric, weights: Real[np.ndarray, "r n"]) -> Float[np.ndarray, "r"]:
    """Evaluate a metric on many weightings, a few hundred at a time."""
    parts = [metric(weights[start : start + CHUNK]) for start in range(0, len(weights), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros(0)


def estimate(metric: Metric, weights: Real[np.ndarray, "r n"], confidence: float) -> Estimate | None:
    """Return a metric's value on all patients and its percentile interval; None where it is not defined."""
    value = float(metric(unweighted(weights.shape[1]))[0])
    return _with_interval(value, evaluated(metric, weights), confidence)


def difference(one: Metric, other: Metric, weights: Real[np.ndarray, "r n"], confidence: float) -> Difference | None:
    """Return ``one - other`` on the same patients and the same draws; None where either is not defined.

    The p-value is twice the smaller share of resamples on either side of zero (ties on both), never below
    ``2 / (r + 1)``.
    """
    once = unweighted(weights.shape[1])
    value = float(one(once)[0] - other(once)[0])
    drawn = evaluated(one, weights) - evaluated(other, weights)
    interval = _with_interval(value, drawn, confidence)
    if interval is None:
        return None
    return Difference(interval.value, interval.low, interval.high, two_sided(drawn[np.isfinite(drawn)]))


def two_sided(drawn: Float[np.ndarray, "r"]) -> float:
    """Bootstrap p-value that the drawn differences are centred on zero."""
    below, above = (drawn <= 0).sum(), (drawn >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(drawn) + 1)))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values of several comparisons (Holm, Scandinavian Journal of Statistics 1979)."""
    adjusted, largest = {}, 0.0
    for rank, (name, value) in enumerate(sorted(p.items(), key=lambda item: (item[1], item[0]))):
        largest = max(largest, min(1.0, (len(p) - rank) * value))
        adjusted[name] = largest
    return adjusted


def _with_interval(value: float, drawn: np.ndarray, confidence: float) -> Estimate | None:
    finite = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(drawn) or len(finite) < (1 - MOST_UNDEFINED) * len(drawn):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
