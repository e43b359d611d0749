"""From a network's probabilities to the columns of predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dml.core.tasks import class_column, horizon_days, survival_column
from dml.data.preprocessing import Preprocessor


def output_values(probabilities: np.ndarray, preprocessor: Preprocessor, years: Sequence[float]) -> dict[str, Any]:
    """Return class probabilities by column; or risk, and survival at horizons, from hazards (patients x bins)."""
    if preprocessor.task.kind == "classification":
        return {class_column(name): probabilities[:, i] for i, name in enumerate(preprocessor.task.classes)}
    survival = np.cumprod(1 - probabilities, axis=1)
    curves = {survival_column(y): interpolate_survival(survival, float(horizon_days(y)), preprocessor) for y in years}
    return {"risk": -survival.sum(1), **curves}


def interpolate_survival(survival: np.ndarray, days: float, preprocessor: Preprocessor) -> np.ndarray:
    """Survival probability after some days, the hazard being constant within a bin; constant after the last follow-up.

    Parameters
    ----------
    survival : array, patients x bins
        Probability to be alive at the end of each bin.
    """
    edges, last = preprocessor.bin_edges.astype(float), preprocessor.last_day
    if len(edges):
        last = max(last, float(edges[-1]) + 1.0)
    ends = np.concatenate([[0.0], edges, [last]])
    log_survival = np.log(np.clip(np.concatenate([np.ones((len(survival), 1)), survival], axis=1), 1e-12, 1.0))
    return np.exp([np.interp(days, ends, row) for row in log_survival])
