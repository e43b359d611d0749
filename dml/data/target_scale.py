"""Scale of a number that is predicted: networks are trained on it standardised, predictions are in its unit."""

import numpy as np
from pydantic import BaseModel, ConfigDict

from dml.core.errors import InputError

MIN_RELATIVE_DEVIATION = 1e-9
"""Standard deviation of a target, relative to its mean, up to which it is constant."""


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

    def undo(self, standardised: np.ndarray) -> np.ndarray:
        """Return numbers in the target's unit."""
        return np.asarray(standardised * self.deviation + self.mean)
