"""Drift week by week: the capital of every quantity's bet, and their mean, which is a capital, too.

Half of the level of alarm is for drift, half for performance. A mean of capitals is a capital whatever the dependence
of the quantities, so nothing has to be corrected for how many are watched; every group has the same weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dml.monitoring.conformal_martingales import conformal_p_values, log_martingale
from dml.monitoring.quantities import Quantity


@dataclass(frozen=True, slots=True)
class QuantityDrift:
    """One quantity: its weight in the mean, medians, and the log capital at the end of each week [weeks]."""

    group: str
    label: str
    weight: float
    reference_median: float
    recent_median: float
    log_capital: np.ndarray


@dataclass(frozen=True, slots=True)
class Drift:
    """All quantities, and the log of the mean capital at the end of each week."""

    weeks: tuple[str, ...]
    patients: tuple[int, ...]
    quantities: tuple[QuantityDrift, ...]
    log_capital: np.ndarray

    @property
    def peak(self) -> float:
        """Largest log capital of any week so far; 0 before the first."""
        return max(0.0, float(self.log_capital.max(initial=0.0)))

    def first_week(self, level: float) -> str | None:
        """Return the week in which the alarm was raised, None if it was not."""
        reached = np.flatnonzero(self.log_capital >= np.log(1 / level))
        return self.weeks[reached[0]] if len(reached) else None


def week_of(times: pd.Series) -> pd.Series:
    """Name the ISO week of times: ``2026-W05``."""
    calendar = times.dt.isocalendar()
    named: pd.Series = calendar["year"].astype(str) + "-W" + calendar["week"].astype(str).str.zfill(2)
    return named


def watch_quantities(quantities: Sequence[Quantity], weeks: Sequence[str], seed: int, recent: int) -> Drift:
    """Bet on every quantity.

    Parameters
    ----------
    quantities : sequence of Quantity
        Of the same patients.
    weeks : sequence of str
        Week of each patient, in order.
    seed : int
        Of the ties, so that a second look at the same patients gives the same numbers.
    recent : int
        Patients of whom the recent median is.
    """
    names = list(dict.fromkeys(weeks))
    ends = np.array([max(i for i, week in enumerate(weeks) if week == name) for name in names], int)
    groups = sorted({each.group for each in quantities})
    drifts = []
    for number, each in enumerate(quantities):
        members = sum(other.group == each.group for other in quantities)
        rng = np.random.default_rng([seed, number])
        known = np.isfinite(each.stream)
        capital = log_martingale(conformal_p_values(each.reference, each.stream[known], rng))
        medians = float(np.median(each.reference)), float(np.median(each.stream[known][-recent:]))
        at_ends = _at(capital, known, ends)
        drifts.append(QuantityDrift(each.group, each.label, 1 / (len(groups) * members), *medians, at_ends))
    counts = tuple(int(n) for n in np.diff(np.concatenate([[-1], ends])))
    return Drift(tuple(names), counts, tuple(drifts), mean_capital(drifts, len(names)))


def _at(log_capital: np.ndarray, known: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Log capital after the last known value up to each end; 0 before the first."""
    seen = np.cumsum(known)[ends]
    return np.asarray(np.concatenate([[0.0], log_capital])[seen])


def mean_capital(drifts: Sequence[QuantityDrift], weeks: int) -> np.ndarray:
    """Return the logarithm of the weighted mean of capitals [weeks]."""
    if not drifts:
        return np.zeros(weeks)
    logs = np.array([drift.log_capital + np.log(drift.weight) for drift in drifts])
    total: np.ndarray = np.logaddexp.reduce(logs, axis=0)
    return total
