"""Recalibration to another cohort by cross-fitting: the ranking stays, level and spread of risk are refitted.

Each patient's numbers come from a fit on the other patients, so they are not evaluated on what was fitted. Survival: a
Cox model of the predicted log cumulative hazard with a new baseline (van Houwelingen, Statistics in Medicine 2000).
Classes: new intercepts and one slope of the log probabilities. Numbers: a line of the target on the prediction, then
the interval widened or narrowed to the coverage it should have (Romano et al., NeurIPS 2019, conformalised quantiles).
Shape legend: n patients, t horizons, k classes.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dml.core.tasks import COVERAGE, Task, horizon_days, survival_column
from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.calibration import calibration_slope, log_cumulative_hazard
from dml.evaluation.metrics.logistic_recalibration import apply_recalibration, fit_recalibration
from dml.evaluation.metrics.regression import calibration_line

N_PARTS = 5
MIN_OUTCOMES = 10
"""Deaths, patients of each class, or patients with a number, below which two parameters would be fitted to noise."""


def recalibrate(rows: pd.DataFrame, task: Task, years: Sequence[float], seed: int) -> pd.DataFrame | None:
    """Refit the predictions of one cohort by cross-fitting.

    Parameters
    ----------
    rows : DataFrame
        Predictions with the truth, a row a patient.
    task : Task
        What is predicted.
    years : sequence of float
        Horizons of the survival columns.
    seed : int
        Of the parts.

    Returns
    -------
    DataFrame or None
        The same rows with new survival columns (risk unchanged), class probabilities or numbers; None if there are too
        few deaths, patients of a class, or patients.
    """
    strata, counted = _strata(rows, task)
    if strata.value_counts().reindex(counted, fill_value=0).min() < MIN_OUTCOMES:
        return None
    part, result = _draw_parts(strata.to_numpy(int), seed), rows.copy()
    for k in range(N_PARTS):
        fitting, other = rows[part != k], rows[part == k]
        if task.kind == "survival":
            columns, values = [survival_column(year) for year in years], _refit_survival(fitting, other, years)
        else:
            refit = _refit_numbers if task.kind == "regression" else _refit_classes
            columns, values = task.output_columns(()), refit(fitting, other, task)
        result.loc[other.index, columns] = values
    return result


def _strata(rows: pd.DataFrame, task: Task) -> tuple[pd.Series, list[int]]:
    """Return the stratum of each patient, and the strata that must have patients: deaths, or every class."""
    if task.kind == "survival":
        return rows["event"].astype(int), [1]
    if task.kind == "regression":
        return pd.Series(0, index=rows.index), [0]
    return rows["label"].map(list(task.classes).index), list(range(len(task.classes)))


def _draw_parts(strata: np.ndarray, seed: int) -> np.ndarray:
    """Divide the patients of each stratum among the parts in random order."""
    random, part = np.random.default_rng(seed), np.empty(len(strata), int)
    for value in np.unique(strata):
        members = random.permutation(np.flatnonzero(strata == value))
        part[members] = np.arange(len(members)) % N_PARTS
    return part


def _refit_survival(fitting: pd.DataFrame, other: pd.DataFrame, years: Sequence[float]) -> np.ndarray:
    middle = survival_column(sorted(years)[len(years) // 2])
    predictor, predictor_other = (log_cumulative_hazard(part[middle].to_numpy(float)) for part in (fitting, other))
    days, event = fitting["days"].to_numpy(float), fitting["event"].to_numpy(bool)
    one, fold = unweighted(len(fitting)), np.zeros(len(fitting), int)
    slope = float(calibration_slope(one, days=days, event=event, predictor=predictor, fold=fold)[0])
    slope = slope if np.isfinite(slope) else 0.0
    centre = float(predictor.mean())
    baseline = breslow(days, event, np.exp(slope * (predictor - centre)), [horizon_days(year) for year in years])
    return np.asarray(np.exp(-baseline[None, :] * np.exp(slope * (predictor_other - centre))[:, None]))


def breslow(days: np.ndarray, event: np.ndarray, hazard: np.ndarray, horizons: Sequence[float]) -> np.ndarray:
    """Breslow's cumulative baseline hazard at some days, given each patient's relative hazard ``[n]``."""
    deaths = np.unique(days[event])
    at_risk = np.array([hazard[days >= day].sum() for day in deaths])
    steps = np.array([(event & (days == day)).sum() for day in deaths]) / at_risk
    total = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(total[np.searchsorted(deaths, horizons, side="right")])


def _refit_classes(fitting: pd.DataFrame, other: pd.DataFrame, task: Task) -> np.ndarray:
    columns, label = task.output_columns(()), fitting["label"].map(list(task.classes).index).to_numpy(int)
    before, probabilities = (part[columns].to_numpy(float) for part in (fitting, other))
    parameters = fit_recalibration(unweighted(len(fitting)), label=label, probabilities=before)[0]
    return apply_recalibration(parameters, probabilities) if np.isfinite(parameters).all() else probabilities


def _refit_numbers(fitting: pd.DataFrame, other: pd.DataFrame, task: Task) -> np.ndarray:
    target, columns = fitting["target"].to_numpy(float), task.output_columns(())
    slope, intercept = (
        float(each[0]) for each in calibration_line(unweighted(len(fitting)), target, fitting["value"].to_numpy(float))
    )
    slope, intercept = (max(slope, 0.0), intercept) if np.isfinite(slope) else (0.0, float(target.mean()))
    intercept = intercept if slope else float(target.mean())
    before, after = (intercept + slope * part[columns].to_numpy(float) for part in (fitting, other))
    outside = np.maximum(before[:, 1] - target, target - before[:, 2])
    rank = min(int(np.ceil(COVERAGE * (len(target) + 1))), len(target))
    wider = np.sort(outside)[rank - 1]
    value, lower, upper = after.T
    return np.stack([value, np.minimum(lower - wider, value), np.maximum(upper + wider, value)], axis=1)
