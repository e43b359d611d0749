"""Models without inputs: Kaplan-Meier survival, class shares, or the mean number of the training patients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from dml.core.tasks import INTERVAL_ENDS


@dataclass(frozen=True, slots=True)
class KaplanMeierNull:
    """Every patient has the survival curve of the training patients, and the same risk."""

    fitted: Any

    @classmethod
    def fit(cls, days: Real[np.ndarray, "n"], event: Bool[np.ndarray, "n"]) -> "KaplanMeierNull":
        """Estimate the curve."""
        from lifelines import KaplanMeierFitter

        return cls(KaplanMeierFitter().fit(days, event))

    def risk(self, columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n"]:
        """Return zero for every patient."""
        return np.zeros(len(columns))

    def survival(self, columns: Float[np.ndarray, "n k"], days: Sequence[int]) -> Float[np.ndarray, "n t"]:
        """Return the same curve for every patient."""
        return np.tile(self.fitted.survival_function_at_times(list(days)).to_numpy(float), (len(columns), 1))

    def describe(self) -> dict[str, Any]:
        """Return the steps of the curve for model.json."""
        steps = self.fitted.survival_function_["KM_estimate"]
        return {"kind": "kaplan_meier", "days": steps.index.tolist(), "survival": steps.tolist()}


@dataclass(frozen=True, slots=True)
class ClassShares:
    """Every patient has the class shares of the training patients; the most frequent class is predicted."""

    classes: tuple[str, ...]
    shares: Float[np.ndarray, "c"]

    @classmethod
    def fit(cls, label: Int[np.ndarray, "n"], classes: Sequence[str]) -> "ClassShares":
        """Count the classes."""
        return cls(tuple(classes), np.bincount(label, minlength=len(classes)) / max(len(label), 1))

    def probabilities(self, columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n c"]:
        """Return the same shares for every patient."""
        return np.tile(self.shares, (len(columns), 1))

    def describe(self) -> dict[str, Any]:
        """Shares for model.json."""
        return {"kind": "class_shares", "classes": list(self.classes), "shares": self.shares.tolist()}


@dataclass(frozen=True, slots=True)
class MeanNumber:
    """Every patient has the mean of the training patients, and the interval of their quantiles."""

    mean: float
    ends: Float[np.ndarray, "2"]

    @classmethod
    def fit(cls, values: Float[np.ndarray, "n"]) -> "MeanNumber":
        """Average; the interval contains the mean however skewed the numbers are."""
        mean, (low, high) = float(np.mean(values)), np.quantile(values, INTERVAL_ENDS)
        return cls(mean, np.array([min(float(low), mean), max(float(high), mean)]))

    def predict(self, columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n 3"]:
        """Return the same number and interval for every patient."""
        return np.tile([self.mean, *self.ends], (len(columns), 1))

    def describe(self) -> dict[str, Any]:
        """Mean and interval for model.json."""
        return {"kind": "mean", "mean": self.mean, "interval": self.ends.tolist()}
