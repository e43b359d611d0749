"""Metrics of discrimination, calibration and accuracy, one family a file, as functions of patient weights.

A bootstrap resample is a weighting of the patients. Every metric takes weights ``[r n]`` (r resamples of n patients;
integer counts, all ones for the plain value) and returns ``[r]`` values, NaN where it is not defined. Its other
parameters are filled by name with what is known of one model's predictions (`dml.evaluation.metric_sets`), which makes
it a `Metric`. They are, of survival:

``days``, ``event`` ``[n]``: follow-up in days, and whether it ended with death; ``risk`` ``[n]``: higher = an earlier
death is expected, only the order within a fold matters; ``fold`` ``[n]``: test fold of each patient. With horizons
(t of them): ``horizons`` ``[t]`` in days, ``survival`` ``[n t]``: predicted probability to be alive at each; ``tau``:
the last one; ``uncensored`` ``[n]``, ``uncensored_at`` ``[n t]``: probability, estimated on the training patients of
the fold, to be uncensored at the patient's own `days` and at each horizon; ``null_survival`` ``[n t]``: Kaplan-Meier
survival of the training patients; ``predictor`` ``[n]``: log cumulative hazard at the primary horizon. Of a metric per
horizon: ``horizon`` in days and ``survival`` ``[n]`` at it.

Of classification into k classes: ``label``, ``predicted`` ``[n]``: index of the true and of the most probable class;
``probabilities`` ``[n k]``; ``classes``: k; ``fold``. Of a metric per class: ``positive``: its index, ``inside``
``[n]``: whether it is the true one, ``score`` = ``probability`` ``[n]`` of it.

Of regression: ``target``, ``value``, ``lower``, ``upper`` ``[n]``: the number, its prediction and the ends of the
interval of 80 %, in the target's unit; ``fold``.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Real

Metric = Callable[[np.ndarray], np.ndarray]
"""Weights ``[r n]`` to values ``[r]``."""
Weights: TypeAlias = Real[np.ndarray, "r n"]
Values: TypeAlias = Float[np.ndarray, "r"]
Vector: TypeAlias = Real[np.ndarray, "n"]
Mask: TypeAlias = Bool[np.ndarray, "n"]
Index: TypeAlias = Int[np.ndarray, "n"]
Days: TypeAlias = Real[np.ndarray, "t"]
Curves: TypeAlias = Float[np.ndarray, "n t"]
Probabilities: TypeAlias = Float[np.ndarray, "n k"]


def unweighted(patients: int) -> np.ndarray:
    """Weights ``[1 n]`` that count every patient once."""
    return np.ones((1, patients))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide, giving NaN where the denominator is zero."""
    defined = denominator != 0
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=quotient, where=defined))
