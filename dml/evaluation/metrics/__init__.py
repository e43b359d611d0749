"""Metrics of discrimination, calibration and accuracy, one family a file, as functions of patient weights.

A bootstrap resample is a weighting of the patients. Every metric takes weights ``[r n]`` (r resamples of n patients;
integer counts, all ones for the plain value) and returns ``[r]`` values, NaN where it is not defined. With a model's
predictions filled in (`dml.evaluation.metric_sets`) it is a `Metric`.
"""

from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray], np.ndarray]
"""Weights ``[r n]`` to values ``[r]``."""


def unweighted(patients: int) -> np.ndarray:
    """Weights ``[1 n]`` that count every patient once."""
    return np.ones((1, patients))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide, giving NaN where the denominator is zero."""
    defined = denominator != 0
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=quotient, where=defined))
