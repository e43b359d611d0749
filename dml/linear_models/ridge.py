"""Ridge regression of a number on a few columns, with an interval from leave-one-out residuals.

Source: Hoerl and Kennard, Technometrics 1970; leave-one-out residuals e_i / (1 - h_ii) of the closed form.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from dml.core.errors import InputError
from dml.core.tasks import INTERVAL_ENDS

MIN_DEVIATION = 1e-12
"""Standard deviation of a target or column, relative to its mean, up to which it is constant."""


@dataclass(frozen=True, slots=True)
class Ridge:
    """A fitted model in the unit of the target.

    Attributes
    ----------
    coefficients, intercept
        Of the columns as they are given.
    ends : array, 2
        Quantiles `INTERVAL_ENDS` of the leave-one-out residuals: the interval around a prediction.
    penalty : float
        As it was asked for.
    """

    coefficients: Float[np.ndarray, "k"]
    intercept: float
    ends: Float[np.ndarray, "2"]
    penalty: float

    @classmethod
    def fit(cls, columns: Float[np.ndarray, "n k"], values: Float[np.ndarray, "n"], penalty: float) -> "Ridge":
        """Fit with the same meaning of `penalty` as lifelines' Cox: mean log-likelihood minus ``penalty / 2 |w|^2``.

        Columns and target are standardised, so that neither unit matters; the Gaussian likelihood is that of unit
        residual variance of the standardised target.

        Raises
        ------
        InputError
            If the target is constant, or there is no patient.
        """
        n = len(values)
        deviation = float(np.std(values)) if n else 0.0
        if deviation <= MIN_DEVIATION * max(abs(float(np.mean(values))) if n else 1.0, 1e-300):
            problem = f"all its training patients have the number {values[0]:g}" if n else "no training patient"
            raise InputError("ridge baseline", problem, "Check the label or make fewer folds")
        mean, scale = columns.mean(axis=0), columns.std(axis=0)
        scale = np.where(scale > MIN_DEVIATION * np.abs(mean), scale, np.inf)
        standardised, target = (columns - mean) / scale, (values - values.mean()) / deviation
        gram = standardised.T @ standardised + n * penalty * np.eye(columns.shape[1])
        solution = np.linalg.solve(gram, standardised.T)  # k n
        weight = solution @ target
        leverage = 1 / n + np.einsum("nk,kn->n", standardised, solution)
        residuals = deviation * (target - standardised @ weight) / np.maximum(1 - leverage, 1e-6)
        coefficients = deviation * weight / scale
        intercept = float(values.mean() - mean @ coefficients)
        return cls(coefficients, intercept, _ends(residuals), penalty)

    def predict(self, columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n 3"]:
        """Return the number and the ends of its interval."""
        value = columns @ self.coefficients + self.intercept
        return np.stack([value, value + self.ends[0], value + self.ends[1]], axis=1)

    def describe(self) -> dict[str, Any]:
        """Coefficients and penalty for model.json."""
        return {
            "kind": "ridge",
            "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept,
            "interval": self.ends.tolist(),
            "penalty": self.penalty,
        }


def _ends(residuals: np.ndarray) -> np.ndarray:
    """Return the quantiles of residuals; the interval always contains the prediction."""
    low, high = np.quantile(residuals, INTERVAL_ENDS)
    return np.array([min(float(low), 0.0), max(float(high), 0.0)])
