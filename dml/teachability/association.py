"""How well cross-fitted predictions agree with their targets: correlation, R2 and Gaussian mutual information.

    r    = correlation of target and prediction, both less their means within the test fold
    R2   = 1 - sum (y - f)^2 / sum (y - m)^2,          m = mean of the fold's learning patients
    I(r) = -0.5 log(1 - max(r, 0)^2) nats

Means are taken within folds because every fold has a regression of its own: a regression that predicts the learning
mean would otherwise correlate negatively with the test patients. I(r) is the mutual information of two jointly normal
variables of correlation r, and with a linear prediction a lower bound of what the slide says under that model. A
negative r counts as none. Source: Cover and Thomas, Elements of Information Theory, 2006, example 8.5.1.

Shape legend: r resamples, n patients, t targets.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

TARGETS_AT_ONCE = 512
"""Targets whose resamples are held in memory at once."""
MAX_CORRELATION = 1 - 1e-12
"""Correlation above which mutual information is not distinguished from infinite."""


@dataclass(frozen=True, slots=True)
class Association:
    """Correlation and R2 of each target in each resample; the first row counts every patient once."""

    r: Float[np.ndarray, "r t"]
    r2: Float[np.ndarray, "r t"]

    @property
    def nats(self) -> Float[np.ndarray, "r t"]:
        """Gaussian mutual information in nats."""
        return gaussian_information(self.r)


def gaussian_information(r: np.ndarray) -> np.ndarray:
    """Return -0.5 log(1 - r^2) in nats, 0 for a negative correlation.

    Examples
    --------
    >>> gaussian_information(np.array([-0.3, 0.0, 0.5])).round(4).tolist()
    [0.0, 0.0, 0.1438]
    """
    positive = np.clip(r, 0.0, MAX_CORRELATION)
    return np.asarray(-0.5 * np.log1p(-(positive**2)))


def associate(
    target: Float[np.ndarray, "n t"],
    prediction: Float[np.ndarray, "n t"],
    mean: Float[np.ndarray, "n t"],
    fold: Int[np.ndarray, "n"],
    weights: Real[np.ndarray, "r n"],
) -> Association:
    """Compare predictions of test patients with their targets, once and in every resample.

    Parameters
    ----------
    target, prediction : [n t]
        Of the test patients.
    mean : [n t]
        Mean of the target among the learning patients of the patient's fold.
    fold : [n]
        Test fold of each patient.
    weights : [r n]
        Resamples, as `bootstrap_weights` draws them.

    Returns
    -------
    Association
        NaN for a target or prediction that does not vary.
    """
    every = np.concatenate([np.ones((1, len(fold))), np.asarray(weights, float)])
    blocks = [slice(at, at + TARGETS_AT_ONCE) for at in range(0, target.shape[1], TARGETS_AT_ONCE)]
    parts = [_associate(target[:, at], prediction[:, at], mean[:, at], fold, every) for at in blocks]
    return Association(*(np.concatenate(each, axis=1) for each in zip(*parts, strict=True)))


def _associate(
    target: np.ndarray, prediction: np.ndarray, mean: np.ndarray, fold: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    covariance, variance, explained = (np.zeros((len(weights), target.shape[1])) for _ in range(3))
    for value in np.unique(fold):
        rows = fold == value
        w, y, f = weights[:, rows], target[rows], prediction[rows]
        y, f = y - y.mean(axis=0), f - f.mean(axis=0)  # so that sums of squares lose no digits
        total = np.maximum(w.sum(axis=1, keepdims=True), 1.0)
        sum_y, sum_f = w @ y, w @ f
        covariance += w @ (y * f) - sum_y * sum_f / total
        variance += w @ (y * y) - sum_y**2 / total
        explained += w @ (f * f) - sum_f**2 / total
    tiny = 1e-12 * len(target)
    defined = (variance > tiny) & (explained > tiny)
    r = np.full_like(covariance, np.nan)
    np.divide(covariance, np.sqrt(np.maximum(variance * explained, tiny**2)), out=r, where=defined)
    error, null = weights @ (target - prediction) ** 2, weights @ (target - mean) ** 2
    r2 = np.full_like(error, np.nan)
    np.divide(error, null, out=r2, where=null > tiny)
    return r, 1 - r2
