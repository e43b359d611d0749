"""From a network's predictions to the columns of predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dml.core.tasks import VALUE_COLUMNS, class_column, horizon_days, survival_column
from dml.data.preprocessing import Preprocessor


def output_values(predictions: np.ndarray, preprocessor: Preprocessor, years: Sequence[float]) -> dict[str, Any]:
    """Return the output columns of some patients.

    Parameters
    ----------
    predictions : array, patients x k
        Class probabilities; hazards of the time bins, which become risk and survival at horizons; or a number and the
        ends of its interval, in training standard deviations, which become numbers in the target's unit.
    preprocessor : Preprocessor
        Task, bins and scaling of the target.
    years : sequence of float
        Horizons of survival.
    """
    if preprocessor.task.kind == "classification":
        return {class_column(name): predictions[:, i] for i, name in enumerate(preprocessor.task.classes)}
    if preprocessor.task.kind == "regression":
        return dict(zip(VALUE_COLUMNS, preprocessor.target_scale.undo_intervals(predictions), strict=True))
    survival = np.cumprod(1 - predictions, axis=1)
    curves = {survival_column(y): interpolate_survival(survival, float(horizon_days(y)), preprocessor) for y in years}
    return {"risk": -survival.sum(1), **curves}


def interpolate_survival(survival: np.ndarray, days: float, preprocessor: Preprocessor) -> np.ndarray:
    """Survival probability after some days, hazards being proportional to the baseline within a bin.

    Of a model that knows no baseline (made before 0.3) the hazard is constant within a bin. Constant after the last
    follow-up.

    Parameters
    ----------
    survival : array, patients x bins
        Probability to be alive at the end of each bin.
    """
    if preprocessor.baseline is not None:
        alive = np.log(np.clip(np.concatenate([np.ones((len(survival), 1)), survival], axis=1), 1e-12, 1.0))
        passed = preprocessor.baseline.passed(np.array([days]), preprocessor.bin_edges.tolist())[0]
        return np.asarray(np.exp(np.diff(alive, axis=1) @ passed))
    edges, last = preprocessor.bin_edges.astype(float), preprocessor.last_day
    if len(edges):
        last = max(last, float(edges[-1]) + 1.0)
    ends = np.concatenate([[0.0], edges, [last]])
    log_survival = np.log(np.clip(np.concatenate([np.ones((len(survival), 1)), survival], axis=1), 1e-12, 1.0))
    return np.exp([np.interp(days, ends, row) for row in log_survival])
