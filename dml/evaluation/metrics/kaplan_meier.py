"""Kaplan-Meier curves of survival and of censoring, weighted ones for resampling, and the log-rank test.

Shape legend: r weightings, n patients, u distinct days, t horizons.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from dml.evaluation.metrics import Days, Index, Mask, Vector, Weights, ratio


@dataclass(frozen=True, slots=True)
class Curve:
    """A right-continuous step function of days that starts at one."""

    days: Float[np.ndarray, "u"]
    values: Float[np.ndarray, "u"]

    def at(self, days: Real[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return the value at some days; after the last step it stays where it was."""
        steps = np.concatenate([[1.0], self.values])
        return np.asarray(steps[np.searchsorted(self.days, days, side="right")])


@dataclass(frozen=True, slots=True)
class KaplanMeier:
    """A survival curve with its pointwise interval and the number at risk just before each step."""

    days: Float[np.ndarray, "u"]
    survival: Float[np.ndarray, "u"]
    low: Float[np.ndarray, "u"]
    high: Float[np.ndarray, "u"]
    at_risk: Float[np.ndarray, "u"]

    @property
    def curve(self) -> Curve:
        """The survival probabilities alone."""
        return Curve(self.days, self.survival)


def kaplan_meier(days: Vector, event: Mask, confidence: float = 0.95) -> KaplanMeier:
    """Estimate survival with the log(-log) interval of Greenwood's variance.

    Where nobody has died yet or nobody is left the interval has no width.
    """
    from scipy.stats import norm

    unique, deaths, _, at_risk = _table(days, event)
    survival = np.cumprod(1 - deaths / at_risk)
    variance = np.cumsum(ratio(deaths, at_risk * (at_risk - deaths)))
    inner = (survival > 0) & (survival < 1)
    half_width = np.zeros(len(unique))
    half_width[inner] = norm.ppf(0.5 + confidence / 2) * np.sqrt(variance[inner]) / np.log(survival[inner])
    low, high = survival ** np.exp(-half_width), survival ** np.exp(half_width)
    return KaplanMeier(unique, survival, low, high, at_risk)


def survival_curve(days: Vector, event: Mask) -> Curve:
    """Kaplan-Meier survival without interval."""
    unique, deaths, _, at_risk = _table(days, event)
    return Curve(unique, np.cumprod(1 - deaths / at_risk))


def censoring_curve(days: Vector, event: Mask) -> Curve:
    """Probability G to be still uncensored: Kaplan-Meier of censoring; a death precedes a censoring of the same day."""
    unique, deaths, censored, at_risk = _table(days, event)
    return Curve(unique, np.cumprod(1 - np.nan_to_num(ratio(censored, at_risk - deaths))))


def survival_at(weights: Weights, *, days: Vector, event: Mask, horizons: Days) -> Float[np.ndarray, "r t"]:
    """Kaplan-Meier survival at some days, for many weightings of the patients at once."""
    order = np.argsort(days, kind="stable")
    unique, start = np.unique(days[order], return_index=True)
    weights = np.asarray(weights, float)[:, order]
    deaths = np.add.reduceat(weights * event[order], start, axis=1)
    at_risk = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1][:, start]
    survival = np.cumprod(1 - np.nan_to_num(ratio(deaths, at_risk)), axis=1)
    steps = np.concatenate([np.ones((len(weights), 1)), survival], axis=1)
    return np.asarray(steps[:, np.searchsorted(unique, horizons, side="right")])


def log_rank(days: Vector, event: Mask, group: Index) -> tuple[float, float]:
    """Log-rank test of two groups, 0 and 1.

    Returns
    -------
    tuple of float
        Chi-squared statistic with one degree of freedom and its p-value; NaN if a group is empty or nobody died.
    """
    from scipy.stats import chi2

    unique, deaths, _, at_risk = _table(days, event)
    exposed = (days[None, :] >= unique[:, None]) @ group.astype(float)
    observed = ((days[None, :] == unique[:, None]) & event) @ group.astype(float)
    expected = deaths * exposed / at_risk
    terms = ratio(deaths * (at_risk - deaths) * exposed * (at_risk - exposed), at_risk**2 * (at_risk - 1))
    variance = np.nansum(terms)
    statistic = (observed - expected).sum() ** 2 / variance if variance > 0 else np.nan
    return float(statistic), float(chi2.sf(statistic, 1))


def _table(days: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distinct days with deaths, censorings and number at risk just before."""
    unique, index = np.unique(np.asarray(days, float), return_inverse=True)
    deaths = np.bincount(index, weights=event, minlength=len(unique))
    leaving = np.bincount(index, minlength=len(unique))
    at_risk = leaving[::-1].cumsum()[::-1].astype(float)
    return unique, deaths, leaving - deaths, at_risk
