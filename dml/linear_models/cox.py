"""Penalised Cox regression on a few columns, with Breslow's baseline hazard.

Source: Cox, JRSS B 1972; lifelines' CoxPHFitter (ridge penalty on standardised columns).
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Real

from dml.core.errors import InputError

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 6
"""How often the penalty is raised tenfold when the fit does not converge."""


@dataclass(frozen=True, slots=True)
class Cox:
    """A fitted model; `penalty` is the one it converged with, at least the requested one."""

    fitted: Any
    penalty: float
    requested: float

    @classmethod
    def fit(
        cls,
        columns: Float[np.ndarray, "n k"],
        days: Real[np.ndarray, "n"],
        event: Bool[np.ndarray, "n"],
        penalty: float,
    ) -> "Cox":
        """Fit; where lifelines does not converge, again with ten times the penalty, and so on.

        Raises
        ------
        InputError
            If nobody died, or it converges with none of the penalties.
        """
        if not event.any():
            raise InputError("Cox baseline", "none of its training patients died", "Check events or make fewer folds")
        table = _frame(columns).assign(days=days, event=event)
        for attempt in range(MAX_ATTEMPTS):
            increased = penalty * 10**attempt
            fitted = _fit_once(table, increased)
            if fitted is not None:
                return cls(fitted, increased, penalty)
            log.warning("Cox with penalty %g did not converge, trying %g", increased, increased * 10)
        problem = f"no convergence with penalties {penalty:g} to {increased:g}"
        raise InputError(
            "Cox baseline", problem, "Lower baselines.components or raise baselines.penalty in params.yaml"
        )

    def risk(self, columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n"]:
        """Log hazard ratio against the mean training patient."""
        return np.asarray(self.fitted.predict_log_partial_hazard(_frame(columns)), float)

    def survival(self, columns: Float[np.ndarray, "n k"], days: Sequence[int]) -> Float[np.ndarray, "n t"]:
        """Probability to be alive after some days."""
        if not len(columns):
            return np.zeros((0, len(days)))
        curves = self.fitted.predict_survival_function(_frame(columns), times=list(days))
        return np.asarray(np.clip(curves.to_numpy(float).T, 0, 1))

    def describe(self) -> dict[str, Any]:
        """Coefficients and penalty for model.json."""
        coefficients = [float(value) for value in self.fitted.params_]
        return {
            "kind": "cox",
            "coefficients": coefficients,
            "penalty": self.penalty,
            "penalty_requested": self.requested,
        }


def _fit_once(table: pd.DataFrame, penalty: float) -> Any | None:
    """Fit once; None if lifelines warns or fails because it does not converge."""
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return CoxPHFitter(penalizer=penalty).fit(table, "days", "event")
        except (ConvergenceWarning, ConvergenceError) as problem:
            log.info("lifelines: %s", str(problem).partition("\n")[0])
            return None


def _frame(columns: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(columns, columns=[f"x{i}" for i in range(columns.shape[1])])
