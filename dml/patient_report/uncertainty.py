"""Conformal sets of a patient's prediction, calibrated on the model's out-of-fold predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dml.core.predictions import read_predictions
from dml.core.tasks import DAYS_PER_YEAR, horizon_columns
from dml.evaluation.conformal import ALPHA, MIN_PATIENTS, ClassSets, NumberIntervals, SurvivalBounds
from dml.evaluation.metrics.kaplan_meier import survival_curve
from dml.inference.ensemble import Ensemble, fold_folders

PACKED = Path("evaluation") / "predictions.parquet"


class Uncertainty(NamedTuple):
    """What is given with a prediction.

    `text` is the set, interval or bound, `coverage` the share of calibration patients that it had when fitted on the
    other folds (None where there is one fold only), `patients` their number.
    """

    text: str
    aimed: float
    coverage: float | None
    patients: int


def read_calibration(folder: Path) -> pd.DataFrame | None:
    """Read out-of-fold predictions of a model: packed with its version, or beside its fold models; None without any.

    Parameters
    ----------
    folder : Path
        With ``fold-*``.
    """
    packed = folder.parent / PACKED
    files = (
        [packed] if packed.exists() else [f / PACKED.name for f in fold_folders(folder) if (f / PACKED.name).exists()]
    )
    if not files:
        return None
    rows = pd.concat([read_predictions(file)[0] for file in files], ignore_index=True)
    return rows[rows["role"] == "test"].reset_index(drop=True)


def describe_uncertainty(
    ensemble: Ensemble, calibration: pd.DataFrame | None, prediction: Mapping[str, Any]
) -> Uncertainty | None:
    """Return the conformal set of one prediction; None where there are too few out-of-fold predictions.

    Parameters
    ----------
    calibration : DataFrame
        Of `read_calibration`.
    prediction : mapping
        A row of `Ensemble.predict`.
    """
    if calibration is None or len(calibration) < MIN_PATIENTS:
        return None
    row = pd.DataFrame([dict(prediction)])
    text = _text(_fit(ensemble, calibration), ensemble, row)
    return Uncertainty(text, 1 - ALPHA, _coverage(ensemble, calibration), len(calibration))


def _fit(ensemble: Ensemble, rows: pd.DataFrame) -> ClassSets | NumberIntervals | SurvivalBounds:
    task = ensemble.spec.preprocessor.task
    if task.kind == "survival":
        horizons = horizon_columns(ensemble.spec.years)
        days, event = rows["days"].to_numpy(float), rows["event"].to_numpy(bool)
        edges = tuple(float(day) for day in horizons.values())
        return SurvivalBounds.fit(rows[list(horizons)].to_numpy(float), days, event, edges)
    if task.kind == "regression":
        return NumberIntervals.fit(rows["value"].to_numpy(float), rows["target"].to_numpy(float))
    label = rows["label"].map({name: k for k, name in enumerate(task.classes)}).to_numpy(int)
    return ClassSets.fit(rows[[f"p_{name}" for name in task.classes]].to_numpy(float), label)


def _text(fitted: ClassSets | NumberIntervals | SurvivalBounds, ensemble: Ensemble, row: pd.DataFrame) -> str:
    task = ensemble.spec.preprocessor.task
    if isinstance(fitted, ClassSets):
        inside = fitted(row[[f"p_{name}" for name in task.classes]].to_numpy(float))[0]
        return "one of " + ", ".join(name for name, chosen in zip(task.classes, inside, strict=True) if chosen)
    if isinstance(fitted, NumberIntervals):
        low, high = fitted(row["value"].to_numpy(float))[0]
        return f"between {low:.3g} and {high:.3g}"
    years = fitted(row[list(horizon_columns(ensemble.spec.years))].to_numpy(float))[0] / DAYS_PER_YEAR
    return f"survival of at least {years:.1f} years"


def _coverage(ensemble: Ensemble, rows: pd.DataFrame) -> float | None:
    """Share of patients inside of what was fitted on the other folds; of survival, estimated by Kaplan-Meier."""
    folds = rows["fold"].unique()
    if len(folds) < 2:
        return None
    parts = [_inside(ensemble, rows[rows["fold"] != fold], rows[rows["fold"] == fold]) for fold in folds]
    return float(np.average([share for share, _ in parts], weights=[n for _, n in parts]))


def _inside(ensemble: Ensemble, fitted_to: pd.DataFrame, rows: pd.DataFrame) -> tuple[float, int]:
    fitted, task = _fit(ensemble, fitted_to), ensemble.spec.preprocessor.task
    if isinstance(fitted, ClassSets):
        label = rows["label"].map({name: k for k, name in enumerate(task.classes)}).to_numpy(int)
        sets = fitted(rows[[f"p_{name}" for name in task.classes]].to_numpy(float))
        return float(sets[np.arange(len(rows)), label].mean()), len(rows)
    if isinstance(fitted, NumberIntervals):
        low, high = fitted(rows["value"].to_numpy(float)).T
        target = rows["target"].to_numpy(float)
        return float(((low <= target) & (target <= high)).mean()), len(rows)
    bound = fitted(rows[list(horizon_columns(ensemble.spec.years))].to_numpy(float))
    days, event = rows["days"].to_numpy(float), rows["event"].to_numpy(bool)
    # death before the bound, with censoring before it: survival of days / bound at 1
    ratio = days / np.maximum(bound, 1e-9)
    return float(survival_curve(ratio, event & (ratio < 1)).at(np.array(1.0))), len(rows)
