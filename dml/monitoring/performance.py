"""Performance as outcomes arrive: ranking, calibration, refusals and subgroups, each a bet for weekly looks.

Ranking: patients are paired in the order of the log before anything is known of their outcome; a pair counts once it
is known who died first (of classes: once their classes differ), and is a hit if the model ranked them so. Pairs share
no patient, so hits are independent and their share is the concordance index. Calibration of survival: observed deaths
against the hazard that the model accumulated over the follow-up, which is a martingale in calendar time; of classes:
the log odds of the predicted class; of numbers: the share inside the interval.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dml.core.tasks import COVERAGE, Task, class_column, horizon_days, survival_column
from dml.monitoring import e_processes as e
from dml.monitoring.outcome_table import ENTRY, EVENT, LABEL, TARGET, TIME

RATE_TOLERANCE = 1.25
"""Deaths may be this many times as often, or as rare, as predicted."""
SHIFT_TOLERANCE = 0.25
"""Of the log odds of the predicted class; 0.25 are six percentage points at one half."""
COVERAGE_TOLERANCE = 0.1
MAX_REFUSED = 0.1
"""Share of patients whose slides may be refused."""


@dataclass(frozen=True, slots=True)
class Check:
    """One property of the model that should hold, and the evidence that it does not.

    Attributes
    ----------
    subgroup : str
        "" for all patients.
    number : int
        Pairs, patients, or deaths.
    estimate, low, high : float
        The property with its interval, which holds at all times.
    required : str
        What is promised of it.
    log_e : float
        Log e-value against what is promised: large where it is broken.
    weight : float
        In the mean of all.
    """

    label: str
    subgroup: str
    number: int
    estimate: float
    low: float
    high: float
    required: str
    log_e: float
    weight: float


def mean_evidence(checks: Sequence[Check]) -> float:
    """Return the log of the weighted mean of e-values (what is left of the weights counts as one)."""
    rest = max(1.0 - sum(check.weight for check in checks), 0.0)
    logs = [check.log_e + np.log(check.weight) for check in checks] + ([np.log(rest)] if rest > 0 else [])
    return float(np.logaddexp.reduce(logs)) if logs else 0.0


def check_refusals(refused: int, patients: int, alpha: float, weight: float) -> Check:
    """Check the share of refused patients."""
    low, high = e.share_interval(refused, patients, alpha * weight)
    evidence = float(e.log_e_share_above(refused, patients, MAX_REFUSED))
    required = f"at most {MAX_REFUSED:.2f}"
    return Check("refused, share", "", patients, _ratio(refused, patients), low, high, required, evidence, weight)


@dataclass(frozen=True, slots=True)
class OutcomeChecks:
    """Checks of patients with outcomes.

    Attributes
    ----------
    task : Task
        What is predicted.
    years : tuple of float
        Horizons of the survival columns.
    floor : float
        Lowest share of concordant pairs that is promised.
    alpha : float
        Level of the intervals of all checks together.
    """

    task: Task
    years: tuple[float, ...]
    floor: float
    alpha: float

    def of(self, rows: pd.DataFrame, weight: float, subgroup: str = "") -> Iterator[Check]:
        """Check ranking and calibration of some patients.

        Parameters
        ----------
        rows : DataFrame
            Logged patients in order, all of them: outcomes are NaN where they are not known yet.
        weight : float
            Of both checks together.
        """
        yield self._ranking(rows, weight / 2, subgroup)
        known = rows.dropna(subset=[{"survival": TIME, "classification": LABEL, "regression": TARGET}[self.task.kind]])
        calibration = {"survival": self._rate, "classification": self._shift, "regression": self._coverage}
        yield calibration[self.task.kind](known, weight / 2, subgroup)

    def _ranking(self, rows: pd.DataFrame, weight: float, subgroup: str) -> Check:
        hits = concordant_pairs(rows, self.task)
        low, high = e.share_interval(hits.sum(), len(hits), self.alpha * weight)
        evidence = float(e.log_e_share_below(hits.sum(), len(hits), self.floor))
        label = {"survival": "C", "classification": "AUC", "regression": "concordance"}[self.task.kind] + " of pairs"
        estimate, required = _ratio(hits.sum(), len(hits)), f"at least {self.floor:.3f}"
        return Check(label, subgroup, len(hits), estimate, low, high, required, evidence, weight)

    def _rate(self, known: pd.DataFrame, weight: float, subgroup: str) -> Check:
        observed, expected = deaths(known, self.years)
        low, high = e.rate_interval(observed, expected, self.alpha * weight)
        sides = (
            float(e.log_e_rate_above(observed, expected, RATE_TOLERANCE)),
            float(e.log_e_rate_below(observed, expected, 1 / RATE_TOLERANCE)),
        )
        required = f"{1 / RATE_TOLERANCE:.2f} to {RATE_TOLERANCE:.2f}"
        estimate, evidence = _ratio(observed, expected), _either(*sides)
        label = "deaths, observed per expected"
        return Check(label, subgroup, observed, estimate, low, high, required, evidence, weight)

    def _shift(self, known: pd.DataFrame, weight: float, subgroup: str) -> Check:
        columns = self.task.output_columns(())
        probability = known[columns].to_numpy(float).max(axis=1, initial=0.0)
        predicted = known[columns].to_numpy(float).argmax(axis=1) if len(known) else np.zeros(0, int)
        hit = np.array(self.task.classes, object)[predicted] == known[LABEL].to_numpy(object)
        low, high = e.shift_interval(hit, probability, self.alpha * weight)
        evidence = _either(*e.log_e_shift(hit, probability, SHIFT_TOLERANCE))
        excess = float(hit.mean() - probability.mean()) if len(known) else np.nan
        required = f"{-SHIFT_TOLERANCE:+.2f} to {SHIFT_TOLERANCE:+.2f}"
        label = f"log odds of the predicted class, shift (hits less predicted: {excess:+.3f})"
        return Check(label, subgroup, len(known), (low + high) / 2, low, high, required, evidence, weight)

    def _coverage(self, known: pd.DataFrame, weight: float, subgroup: str) -> Check:
        target = known[TARGET].to_numpy(float)
        inside = (known["value_lower"].to_numpy(float) <= target) & (target <= known["value_upper"].to_numpy(float))
        low, high = e.share_interval(inside.sum(), len(inside), self.alpha * weight)
        border = COVERAGE - COVERAGE_TOLERANCE
        evidence, required = float(e.log_e_share_below(inside.sum(), len(inside), border)), f"at least {border:.2f}"
        estimate = _ratio(inside.sum(), len(inside))
        return Check("numbers in their interval", subgroup, len(known), estimate, low, high, required, evidence, weight)


def concordant_pairs(rows: pd.DataFrame, task: Task) -> np.ndarray:
    """Return for each resolved pair of neighbours in the log whether the model ranked it right; ties by position.

    Examples
    --------
    >>> from dml.core.tasks import SurvivalTask
    >>> rows = pd.DataFrame({"risk": [2.0, 1.0], TIME: [10.0, 20.0], EVENT: [True, False], ENTRY: [0.0, 0.0]})
    >>> concordant_pairs(rows, SurvivalTask()).tolist()
    [True]
    """
    first, second = rows.iloc[: len(rows) // 2 * 2 : 2], rows.iloc[1::2]
    if task.kind == "classification":
        return _ranked_classes(first, second, task)
    if task.kind == "regression":
        difference = first[TARGET].to_numpy(float) - second[TARGET].to_numpy(float)
        predicted = first["value"].to_numpy(float) - second["value"].to_numpy(float)
        return np.asarray(((predicted > 0) == (difference > 0))[np.abs(difference) > 0])
    (t1, d1, e1, r1), (t2, d2, e2, r2) = (
        (part[TIME].to_numpy(float), part[EVENT].eq(True).to_numpy(), part[ENTRY].to_numpy(float), part["risk"])
        for part in (first, second)
    )
    earlier, later = (
        d1 & ((t1 < t2) | ((t1 == t2) & ~d2)) & (t1 > e2),
        d2 & ((t2 < t1) | ((t1 == t2) & ~d1)) & (t2 > e1),
    )
    higher = r1.to_numpy(float) > r2.to_numpy(float)
    resolved: np.ndarray = earlier | later
    return np.asarray(np.where(earlier, higher, ~higher)[resolved], bool)


def _ranked_classes(first: pd.DataFrame, second: pd.DataFrame, task: Task) -> np.ndarray:
    hits = []
    for (_, one), (_, other) in zip(first.iterrows(), second.iterrows(), strict=True):
        a, b = one[LABEL], other[LABEL]
        if isinstance(a, str) and isinstance(b, str) and a != b:
            columns = [class_column(a), class_column(b)]
            margins = [row[columns[0]] - row[columns[1]] for row in (one, other)]
            hits.append(margins[0] > margins[1])
    return np.array(hits, bool)


def deaths(known: pd.DataFrame, years: Sequence[float]) -> tuple[int, float]:
    """Return observed and expected deaths over the follow-up, until the last horizon at most.

    The cumulative hazard is interpolated between the horizons by straight lines.
    """
    days = np.array([0.0, *(horizon_days(year) for year in sorted(years))])
    survival = known[[survival_column(year) for year in sorted(years)]].to_numpy(float)
    hazard = np.column_stack([np.zeros(len(known)), -np.log(np.clip(survival, 1e-6, 1.0))])
    time, entry = known[TIME].to_numpy(float), known[ENTRY].to_numpy(float)
    counted = known[EVENT].eq(True).to_numpy() & (time <= days[-1])
    expected = sum(
        np.interp(min(end, days[-1]), days, row) - np.interp(min(start, days[-1]), days, row)
        for start, end, row in zip(entry, time, hazard, strict=True)
    )
    return int(counted.sum()), float(expected)


def _either(above: float, below: float) -> float:
    return float(np.logaddexp(above, below) - np.log(2))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else np.nan
