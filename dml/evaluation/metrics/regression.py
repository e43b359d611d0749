"""Ranking, accuracy and calibration of predicted numbers.

Ranks are compared inside a fold only (each fold has its own model); what depends on a patient alone is pooled.
Sources: Spearman, American Journal of Psychology 1904; calibration: Cox, Biometrika 1958, and Van Calster et al., BMC
Medicine 2019. Shape legend: r weightings, n patients.
"""

import numpy as np

from dml.evaluation.metrics import Index, Values, Vector, Weights, ratio
from dml.evaluation.metrics.brier import weighted_mean
from dml.evaluation.metrics.registry import metric


@metric("spearman", kind="regression", label="Spearman", order=10, leading=True, headline=True, main=True,
        compared=True, chance=0.0)  # fmt: skip
def spearman(weights: Weights, *, target: Vector, value: Vector, fold: Index) -> Values:
    """Spearman's rank correlation inside each fold, mean over the folds by patients.

    Integer weights give exactly the value of the resample. A constant prediction ranks nobody and counts as 0, as equal
    risks have a C of 0.5; a fold whose target does not vary has no value, and NaN is returned if there is no other.

    Examples
    --------
    >>> target, fold = np.array([1.0, 2.0, 3.0]), np.zeros(3, int)
    >>> spearman(np.ones((1, 3)), target=target, value=np.exp(target), fold=fold)
    array([1.])
    """
    weights = np.asarray(weights, float)
    total, patients = np.zeros(len(weights)), np.zeros(len(weights))
    for each in np.unique(fold):
        inside = fold == each
        correlation, count = _rank_correlation(weights[:, inside], target[inside], value[inside])
        defined = np.isfinite(correlation)
        total += np.where(defined, correlation * count, 0.0)
        patients += np.where(defined, count, 0.0)
    return ratio(total, patients)


@metric("r2", kind="regression", label="R2", order=20, headline=True, main=True, compared=True, chance=0.0)
def r_squared(weights: Weights, *, target: Vector, value: Vector) -> Values:
    """Share of the variance of all patients that is explained: 1 - squared errors / squared distances from the mean."""
    weights = np.asarray(weights, float)
    mean = ratio(weights @ target, weights.sum(axis=1))
    total = (weights * (target - mean[:, None]) ** 2).sum(axis=1)
    return np.asarray(1 - ratio(weights @ (target - value) ** 2, total))


@metric("mae", kind="regression", label="Mean absolute error", order=30, higher_is_better=False, main=True,
        compared=True, in_unit=True)  # fmt: skip
def mean_absolute_error(weights: Weights, *, target: Vector, value: Vector) -> Values:
    """Mean distance of the prediction from the target, in its unit."""
    return weighted_mean(weights, terms=np.abs(target - value))


@metric("calibration_slope", kind="regression", label="Calibration slope", order=40, higher_is_better=None, main=True,
        calibration=True, overall_only=True)  # fmt: skip
def calibration_slope(weights: Weights, *, target: Vector, value: Vector) -> Values:
    """Slope of the least-squares line of target on prediction; below 1 predictions are too extreme, above too timid."""
    return calibration_line(weights, target, value)[0]


@metric("calibration_intercept", kind="regression", label="Calibration intercept", order=50, higher_is_better=None,
        calibration=True, overall_only=True, in_unit=True)  # fmt: skip
def calibration_intercept(weights: Weights, *, target: Vector, value: Vector) -> Values:
    """Intercept of that line, in the target's unit; 0 where the slope is 1 and the mean is right."""
    return calibration_line(weights, target, value)[1]


@metric("bias", kind="regression", label="Mean error", order=60, higher_is_better=None, calibration=True,
        in_unit=True)  # fmt: skip
def bias(weights: Weights, *, target: Vector, value: Vector) -> Values:
    """Mean of prediction less target, in its unit; 0 is right on average."""
    return weighted_mean(weights, terms=value - target)


@metric("coverage", kind="regression", label="Coverage of the 80 % interval", order=70, higher_is_better=None,
        main=True, calibration=True)  # fmt: skip
def interval_coverage(weights: Weights, *, target: Vector, lower: Vector, upper: Vector) -> Values:
    """Share of patients whose target is inside the interval of 80 %; 0.8 is right."""
    return weighted_mean(weights, terms=((target >= lower) & (target <= upper)).astype(float))


@metric("interval_width", kind="regression", label="Width of the 80 % interval", order=80, higher_is_better=False,
        calibration=True, in_unit=True)  # fmt: skip
def interval_width(weights: Weights, *, lower: Vector, upper: Vector) -> Values:
    """Mean width of the interval, in the target's unit: of two with the same coverage the narrower says more."""
    return weighted_mean(weights, terms=upper - lower)


def calibration_line(weights: Weights, target: Vector, value: Vector) -> tuple[Values, Values]:
    """Return slope and intercept ``[r]`` of the line of target on prediction; NaN where the prediction is constant."""
    if np.ptp(value) <= 1e-12 * np.abs(value).max(initial=0.0):
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    weights = np.asarray(weights, float)
    total = weights.sum(axis=1)
    mean_value, mean_target = ratio(weights @ value, total), ratio(weights @ target, total)
    centred = value - mean_value[:, None]
    slope = ratio((weights * centred * (target - mean_target[:, None])).sum(axis=1), (weights * centred**2).sum(axis=1))
    return slope, np.asarray(mean_target - slope * mean_value)


def _rank_correlation(weights: np.ndarray, target: Vector, value: Vector) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation of mid-ranks and the number of patients of each weighting."""
    count = weights.sum(axis=1)
    one, other = (_mid_ranks(weights, numbers) - (count[:, None] + 1) / 2 for numbers in (target, value))
    product = (weights * one * other).sum(axis=1)
    variance, predicted = (weights * one**2).sum(axis=1), (weights * other**2).sum(axis=1)
    correlation = np.where(predicted > 0, ratio(product, np.sqrt(variance * predicted)), 0.0)
    return np.where(variance > 0, correlation, np.nan), count


def _mid_ranks(weights: np.ndarray, numbers: Vector) -> np.ndarray:
    """Return the mean rank ``[r n]`` of each patient among weighted patients; equal numbers share theirs."""
    unique, level = np.unique(numbers, return_inverse=True)
    sizes = weights @ np.eye(len(unique))[level]
    below = np.cumsum(sizes, axis=1) - sizes
    return np.asarray((below + (sizes + 1) / 2)[:, level])
