"""Conformal sets and bounds: how far out-of-fold predictions were off decides how wide those of a new patient are.

    classes    {k : p_k >= 1 - q},             q: quantile of 1 - p of the true class           (Sadinle et al., 2019)
    a number   value -/+ q,                    q: quantile of |target - value|                  (Lei et al., 2018)
    survival   T > t with S(t) = 1 - u,        P(1 - S(T) < u) = alpha                       (after Candes et al., 2023)

The quantile is the ceil((n + 1)(1 - alpha))-th of n. Of survival, 1 - S(T) is censored where the patient is, so its
distribution is estimated by Kaplan-Meier: exact under censoring that does not depend on it, approximate otherwise.
Written out, as it is a dozen lines: crepes and mapie offer neither the censored bound nor fewer dependencies.

Shape legend: n calibration patients, m new patients, c classes, t horizons.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from dml.evaluation.metrics.kaplan_meier import survival_curve

ALPHA = 0.1
"""Share of patients outside of a set, or beyond a bound, that is aimed at."""
MIN_PATIENTS = 20
"""Calibration patients from which a set is given."""


@dataclass(frozen=True, slots=True)
class ClassSets:
    """Sets of classes; `limit` is the probability from which a class is in the set."""

    limit: float

    @classmethod
    def fit(
        cls, probabilities: Float[np.ndarray, "n c"], label: Int[np.ndarray, "n"], alpha: float = ALPHA
    ) -> "ClassSets":
        """Fit on out-of-fold predictions."""
        return cls(1 - conformal_quantile(1 - probabilities[np.arange(len(label)), label], alpha))

    def __call__(self, probabilities: Float[np.ndarray, "m c"]) -> Bool[np.ndarray, "m c"]:
        """Return which classes are in the set; the likeliest always is."""
        inside = probabilities >= self.limit
        inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
        return np.asarray(inside)


@dataclass(frozen=True, slots=True)
class NumberIntervals:
    """Intervals of one half width."""

    half_width: float

    @classmethod
    def fit(
        cls, value: Float[np.ndarray, "n"], target: Float[np.ndarray, "n"], alpha: float = ALPHA
    ) -> "NumberIntervals":
        """Fit on out-of-fold predictions."""
        return cls(conformal_quantile(np.abs(target - value), alpha))

    def __call__(self, value: Float[np.ndarray, "m"]) -> Float[np.ndarray, "m 2"]:
        """Return the ends."""
        return np.stack([value - self.half_width, value + self.half_width], axis=1)


@dataclass(frozen=True, slots=True)
class SurvivalBounds:
    """Lower bounds of survival time; `level` is the predicted survival at the bound."""

    horizons: tuple[float, ...]
    level: float

    @classmethod
    def fit(
        cls,
        survival: Float[np.ndarray, "n t"],
        days: Float[np.ndarray, "n"],
        event: Bool[np.ndarray, "n"],
        horizons: tuple[float, ...],
        alpha: float = ALPHA,
    ) -> "SurvivalBounds":
        """Fit on out-of-fold curves, straight between the horizons (days); beyond the last everybody is censored."""
        last = horizons[-1]
        followed, died = np.minimum(days, last), event & (days <= last)
        edges = [0.0, *horizons]
        u = np.array([1 - np.interp(d, edges, [1.0, *row]) for d, row in zip(followed, survival, strict=True)])
        curve = survival_curve(u, died)
        # the first u at which at most 1 - alpha are above, one patient more being as bad as the worst
        target = min((1 - alpha) * (len(u) + 1) / max(len(u), 1), 1.0)
        reached = np.flatnonzero(curve.values < target)
        limit = float(curve.days[reached[0]]) if len(reached) else float(u.max())
        return cls(horizons, 1 - limit)

    def __call__(self, survival: Float[np.ndarray, "m t"]) -> Float[np.ndarray, "m"]:
        """Return the days; those of the last horizon where the curve stays above the level."""
        edges = np.array([0.0, *self.horizons])
        return np.array([_first_day(edges, np.concatenate([[1.0], row]), self.level) for row in survival])


def conformal_quantile(scores: Float[np.ndarray, "n"], alpha: float) -> float:
    """Return the ceil((n + 1)(1 - alpha))-th smallest score; infinite where n is too small for the level.

    Examples
    --------
    >>> conformal_quantile(np.arange(1.0, 20.0), 0.1), conformal_quantile(np.arange(5.0), 0.1)
    (18.0, inf)
    """
    rank = math.ceil((len(scores) + 1) * (1 - alpha))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")


def _first_day(edges: np.ndarray, curve: np.ndarray, level: float) -> float:
    """Day at which a falling curve first reaches a level."""
    below = np.flatnonzero(curve <= level)
    if not len(below):
        return float(edges[-1])
    i = int(below[0])
    if i == 0 or curve[i - 1] == curve[i]:
        return float(edges[i])
    share = (curve[i - 1] - level) / (curve[i - 1] - curve[i])
    return float(edges[i - 1] + share * (edges[i] - edges[i - 1]))
