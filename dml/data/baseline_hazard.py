"""The cumulative hazard of the training patients: how it passes within the time bins of a discrete-time model.

    S(t) = S(e_{k-1}) (1 - h_k) ^ f_k(t),    f_k(t) = (H(t) - H(e_{k-1})) / (H(e_k) - H(e_{k-1}))

H is the Nelson-Aalen estimate, e_k the ends of the bins, h_k a patient's hazard of bin k: hazards are proportional
within a bin, so that a model of base rates has the curve of the training patients itself. f is also how much of a bin
a patient has survived at the last follow-up. After the last death nothing passes.

Source: Nelson-Aalen, e.g. Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 2002, chapter 4.

Shape legend: n patients, k bins, p points of the curve.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict

from dml.data.vectors import Vector

MAX_POINTS = 256
"""Points of the curve that are stored; quantiles of the deaths where there are more."""


class BaselineHazard(BaseModel):
    """Cumulative hazard at some days, linear in between.

    Examples
    --------
    >>> curve = BaselineHazard.fit(np.array([10.0, 20.0, 30.0, 40.0]), np.array([True, False, True, False]))
    >>> curve(np.array([0.0, 10.0, 20.0, 30.0, 99.0])).tolist()
    [0.0, 0.25, 0.5, 0.75, 0.75]
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    days: Vector
    hazard: Vector

    @classmethod
    def fit(cls, days: Float[np.ndarray, "n"], event: Bool[np.ndarray, "n"]) -> "BaselineHazard":
        """Estimate the curve from follow-up."""
        deaths, died = np.unique(days[event], return_counts=True)
        at_risk = len(days) - np.searchsorted(np.sort(days), deaths)
        total = np.cumsum(died / np.maximum(at_risk, 1))
        if len(deaths) > MAX_POINTS:
            index = np.unique(np.linspace(0, len(deaths) - 1, MAX_POINTS).round().astype(int))
            deaths, total = deaths[index], total[index]
        return cls(days=np.concatenate([[0.0], deaths]), hazard=np.concatenate([[0.0], total]))

    def __call__(self, days: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Return the cumulative hazard."""
        return np.asarray(np.interp(days, self.days.astype(float), self.hazard.astype(float)))

    def base_hazards(self, edges: Sequence[float]) -> Float[np.ndarray, "k"]:
        """Return the hazard of each bin between `edges`; the last bin ends with the last death."""
        at = self(np.array([0.0, *edges, np.inf]))
        return np.asarray(np.clip(-np.expm1(-np.diff(at)), 1e-3, 0.99))

    def passed(self, days: Float[np.ndarray, "n"], edges: Sequence[float]) -> Float[np.ndarray, "n k"]:
        """Return the share (f) of each bin that has passed after some days, 1 for bins before and 0 for bins after."""
        at = self(np.array([0.0, *edges, np.inf]))
        total = np.maximum(np.diff(at), 1e-12)
        shares: np.ndarray = np.clip((self(np.asarray(days, float))[:, None] - at[:-1]) / total, 0.0, 1.0)
        return shares

    def exposure(
        self, days: Float[np.ndarray, "n"], bins: Int[np.ndarray, "n"], edges: Sequence[float]
    ) -> Float[np.ndarray, "n"]:
        """Return the share of the bin of each patient's last follow-up that has passed then."""
        shares: np.ndarray = self.passed(days, edges)[np.arange(len(bins)), bins]
        return shares
