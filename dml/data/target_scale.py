"""Scale of a number that is predicted: networks are trained on it standardised, predictions are in its unit.

Shape legend: n patients.
"""

import math

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from dml.core.errors import InputError
from dml.core.tasks import COVERAGE

MIN_RELATIVE_DEVIATION = 1e-9
"""Standard deviation of a target, relative to its mean, up to which it is constant."""
MIN_PATIENTS = 20
"""Out-of-fold predictions from which the width of intervals is corrected."""


class TargetScale(BaseModel):
    """Mean and standard deviation of the numbers that a regression predicts, over the training patients.

    Examples
    --------
    >>> scale = TargetScale.fit(np.array([10.0, 14.0]), "purity")
    >>> scale(np.array([12.0, 16.0])).tolist(), scale.undo(np.array([-1.0])).tolist()
    ([0.0, 2.0], [10.0])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float = 0.0
    deviation: float = 1.0
    margin: float = 0.0
    """Added to both ends of intervals, in standard deviations; below zero where they are too wide."""

    @classmethod
    def fit(cls, values: np.ndarray, task: str) -> "TargetScale":
        """Fit to the numbers of the training patients.

        Raises
        ------
        InputError
            If there is none, one is not finite, or all are equal.
        """
        if not np.isfinite(values).all():
            raise InputError(f"task {task}", "a number of a training patient is not finite", "Leave its cell empty")
        if not len(values):
            raise InputError(f"task {task}", "no training patient has a number", "Leave the task out")
        mean, deviation = float(values.mean()), float(values.std())
        if deviation <= MIN_RELATIVE_DEVIATION * abs(mean):
            problem = f"all {len(values)} training patients have the number {mean:g}"
            raise InputError(f"task {task}", problem, "Leave the task out, or correct the label's column")
        return cls(mean=mean, deviation=deviation)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Standardise."""
        return np.asarray((values - self.mean) / self.deviation)

    def with_margin(self, predictions: Float[np.ndarray, "n 3"], standardised: Float[np.ndarray, "n"]) -> "TargetScale":
        """Return the scale whose intervals hold the share `COVERAGE` of patients that were not trained on.

        Conformalised quantile regression (Romano et al., NeurIPS 2019). Too few patients leave the intervals.

        Parameters
        ----------
        predictions : array, n x 3
            Point, lower and upper end, out of fold, standardised.
        standardised : array, n
            What was observed.
        """
        if len(standardised) < MIN_PATIENTS:
            return self
        outside = np.maximum(predictions[:, 1] - standardised, standardised - predictions[:, 2])
        rank = min(math.ceil(COVERAGE * (len(outside) + 1)), len(outside))
        return self.model_copy(update={"margin": float(np.sort(outside)[rank - 1])})

    def undo_intervals(self, predictions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3 n"]:
        """Return point, lower and upper end in the target's unit, the ends moved by the margin but not past the point.

        Examples
        --------
        >>> TargetScale(mean=10.0, deviation=2.0, margin=0.5).undo_intervals(np.array([[0.0, -1.0, 1.0]])).T.tolist()
        [[10.0, 7.0, 13.0]]
        """
        value, lower, upper = predictions.T
        ends = np.minimum(lower - self.margin, value), np.maximum(upper + self.margin, value)
        return self.undo(np.stack([value, *ends]))

    def undo(self, standardised: np.ndarray) -> np.ndarray:
        """Return numbers in the target's unit."""
        return np.asarray(standardised * self.deviation + self.mean)
