"""Calibration of survival probabilities: observed to expected deaths, calibration slope, D-calibration.

Sources: van Houwelingen, Statistics in Medicine 2000 (slope); Haider et al., JMLR 2020 (D-calibration).
Shape legend: r weightings, n patients, t horizons, k bins.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dml.evaluation.metrics import Curves, Days, Index, Mask, Values, Vector, Weights, ratio
from dml.evaluation.metrics.kaplan_meier import survival_at
from dml.evaluation.metrics.registry import metric

MIN_PROBABILITY = 1e-6
"""Survival probabilities are clipped this far from 0 and 1 before logarithms."""
N_NEWTON_STEPS, MAX_SLOPE = 40, 30.0
"""Newton steps, and the slope (in standard deviations of the predictor) beyond which there is no maximum."""


@metric("oe_{year}y", kind="survival", label="Observed/expected at {year} y", order=40, higher_is_better=None,
        calibration=True)  # fmt: skip
def observed_to_expected(weights: Weights, *, days: Vector, event: Mask, survival: Vector, horizon: float) -> Values:
    """Kaplan-Meier share of deaths within a horizon (days) over the mean predicted one; 1 is right on average."""
    observed = 1 - survival_at(weights, days=days, event=event, horizons=np.array([horizon]))[:, 0]
    expected = ratio(weights @ (1 - survival), weights.sum(axis=1))
    return ratio(observed, expected)


def log_cumulative_hazard(survival: Vector) -> Vector:
    """Complementary log-log ``log(-log S)``, the predictor whose Cox coefficient is the calibration slope."""
    return np.asarray(np.log(-np.log(np.clip(survival, MIN_PROBABILITY, 1 - MIN_PROBABILITY))))


@metric("calibration_slope", kind="survival", label="Calibration slope", order=70, higher_is_better=None, main=True,
        calibration=True, overall_only=True)  # fmt: skip
def calibration_slope(weights: Weights, *, days: Vector, event: Mask, predictor: Vector, fold: Index) -> Values:
    """Coefficient of the predictor in a Cox model stratified by fold (Breslow ties), for many weightings at once.

    Below 1 the predictions are too extreme, above 1 too timid; NaN where the predictor does not vary within folds or
    the likelihood has no maximum. Newton's method on the concave partial likelihood, all weightings in step.
    """
    scale = float(np.std(predictor))
    varying = any(np.ptp(predictor[fold == value]) > 0 for value in np.unique(fold))
    if not varying:
        return np.full(len(weights), np.nan)
    strata = [_Stratum.of(days, event, predictor / scale, fold == value) for value in np.unique(fold)]
    slope, weights = np.zeros(len(weights)), np.asarray(weights, float)
    for _ in range(N_NEWTON_STEPS):
        derivatives = [stratum.derivatives(weights, slope) for stratum in strata]
        gradient, information = sum(d[0] for d in derivatives), sum(d[1] for d in derivatives)
        step = np.clip(np.nan_to_num(ratio(np.asarray(gradient), np.asarray(information))), -1, 1)
        slope = np.clip(slope + step, -MAX_SLOPE, MAX_SLOPE)
        if np.abs(step).max() < 1e-10:
            break
    slope[(np.abs(slope) >= MAX_SLOPE) | (np.asarray(information) <= 0)] = np.nan
    return np.asarray(slope / scale)


@dataclass(frozen=True, slots=True)
class DCalibration:
    """Share of patients in each tenth of predicted survival at the time of death; uniform if calibrated."""

    counts: Float[np.ndarray, "k"]
    statistic: float
    p: float


def d_calibration(days: Vector, event: Mask, survival: Vector, bins: int = 10) -> DCalibration:
    """Test whether predicted survival at death is uniform; a censored patient is divided among the bins below.

    Parameters
    ----------
    days, event : [n]
        Follow-up; `days` only for its length.
    survival : [n]
        Each patient's predicted probability to be alive at its own `days`.
    bins : int
        Equal bins of survival probability.
    """
    from scipy.stats import chi2

    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.digitize(survival, edges[1:-1], right=True), 0, bins - 1)
    counts = np.bincount(bin_of[event], minlength=bins).astype(float)
    censored, value = bin_of[~event], np.maximum(survival[~event], MIN_PROBABILITY)
    for index in range(bins):
        below = np.clip(value - edges[index], 0, 1 / bins) / value
        counts[index] += below[censored >= index].sum()
    expected = len(days) / bins
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return DCalibration(counts, statistic, float(chi2.sf(statistic, bins - 1)))


def survival_at_follow_up(days: Vector, survival: Curves, horizons: Days) -> Vector:
    """Each patient's predicted survival at its own `days`, with a constant hazard between horizons.

    Days past the last horizon are read at the last horizon: such patients must then count as censored there.
    """
    grid = np.concatenate([[0.0], horizons])
    logs = np.log(np.clip(survival, MIN_PROBABILITY, 1))
    logs = np.concatenate([np.zeros((len(days), 1)), np.minimum.accumulate(logs, axis=1)], axis=1)
    return np.array([np.exp(np.interp(day, grid, row)) for day, row in zip(days, logs, strict=True)])


@dataclass(frozen=True, slots=True)
class _Stratum:
    """Patients of one fold from the longest to the shortest follow-up; `last` closes the group of equal days."""

    index: np.ndarray
    event: np.ndarray
    predictor: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, days: np.ndarray, event: np.ndarray, predictor: np.ndarray, inside: np.ndarray) -> "_Stratum":
        members = np.flatnonzero(inside)
        index = members[np.argsort(-days[members], kind="stable")]
        last = np.searchsorted(-days[index], -days[index], side="right") - 1
        return cls(index, event[index], predictor[index] - predictor[index].mean(), last)

    def derivatives(self, weights: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and information ``[r]`` of the log partial likelihood."""
        ordered = weights[:, self.index]
        deaths = ordered * self.event
        exponent = slope[:, None] * self.predictor
        hazard = ordered * np.exp(exponent - exponent.max(axis=1, keepdims=True))
        total = np.cumsum(hazard, axis=1)[:, self.last]
        mean = np.nan_to_num(ratio(np.cumsum(hazard * self.predictor, axis=1)[:, self.last], total))
        square = np.nan_to_num(ratio(np.cumsum(hazard * self.predictor**2, axis=1)[:, self.last], total))
        gradient = (deaths * (self.predictor - mean)).sum(axis=1)
        return gradient, (deaths * (square - mean**2)).sum(axis=1)
