"""The ratio of two differences with Fieller's interval, which admits that a ratio to an uncertain gap is not bounded.

The set of all t for which N - t D is not distinguishable from zero:

    (N - t D)^2 <= z^2 (var N - 2 t cov(N, D) + t^2 var D)

with variances of paired bootstrap draws. It is an interval where D itself is distinguishable from zero, and not bounded
where it is not. Source: Fieller, Journal of the Royal Statistical Society B 1954, 16:175.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from dml.evaluation.intervals import rounded


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio and its interval; None where the denominator is not distinguishable from zero."""

    value: float
    low: float | None
    high: float | None

    def to_json(self) -> Mapping[str, Any]:
        """Return value, ci_low and ci_high, rounded."""
        ends = {"ci_low": self.low, "ci_high": self.high}
        return {"value": rounded(self.value), **{k: None if v is None else rounded(v) for k, v in ends.items()}}


def fieller(numerator: Float[np.ndarray, "r"], denominator: Float[np.ndarray, "r"], confidence: float) -> Ratio:
    """Return the ratio of two quantities that were resampled together.

    Parameters
    ----------
    numerator, denominator : [r]
        The value on all patients first, then paired resamples; draws in which either is not defined are left out.
    confidence : float
        Of the interval.

    Returns
    -------
    Ratio
        Its value is NaN where the denominator is not positive: there is no gap to have a share of.

    Examples
    --------
    >>> draws = np.random.default_rng(0).normal(size=(2, 4000))
    >>> wide = fieller(np.r_[0.5, 0.5 + draws[0]], np.r_[1.0, 1.0 + draws[1]], 0.95)
    >>> wide.value, wide.low
    (0.5, None)
    >>> sharp = fieller(np.r_[0.5, 0.5 + 0.1 * draws[0]], np.r_[1.0, 1.0 + 0.1 * draws[1]], 0.95)
    >>> round(float(sharp.low), 1), round(float(sharp.high), 1)
    (0.3, 0.7)
    """
    top, bottom = float(numerator[0]), float(denominator[0])
    if not (np.isfinite(top) and np.isfinite(bottom) and bottom > 0):
        return Ratio(float("nan"), None, None)
    draws = np.stack([numerator[1:], denominator[1:]])
    draws = draws[:, np.isfinite(draws).all(axis=0)]
    if draws.shape[1] < 2:
        return Ratio(top / bottom, None, None)
    z2 = float(norm.ppf(0.5 + confidence / 2)) ** 2
    (v_top, covariance), (_, v_bottom) = np.cov(draws)
    a, half_b, c = bottom**2 - z2 * v_bottom, top * bottom - z2 * covariance, top**2 - z2 * v_top
    if a <= 0:
        return Ratio(top / bottom, None, None)
    root = float(np.sqrt(max(half_b**2 - a * c, 0.0)))
    return Ratio(top / bottom, (half_b - root) / a, (half_b + root) / a)
