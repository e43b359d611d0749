"""Recalibration to another cohort by cross-fitting: the ranking stays, level and spread of risk are refitted.

Each patient's numbers come from a fit on the other patients, so they are not evaluated on what was fitted. Survival: a
Cox model of the predicted log cumulative hazard with a new baseline (van Houwelingen, Statistics in Medicine 2000).
Classes: new intercepts and one slope of the log probabilities. Shape legend: n patients, t horizons, k classes.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dml.core.tasks import class_column, horizon_days, survival_column
from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.calibration import calibration_slope, log_cumulative_hazard
from dml.evaluation.metrics.logistic_recalibration import apply_recalibration, fit_recalibration

N_PARTS = 5
MIN_OUTCOMES = 10
"""Deaths, or patients of each class, below which two parameters would be fitted to noise."""


def recalibrate(rows: pd.DataFrame, classes: Sequence[str], years: Sequence[float], seed: int) -> pd.DataFrame | None:
    """Refit the predictions of one cohort by cross-fitting.

    Parameters
    ----------
    rows : DataFrame
        Predictions with the truth, a row a patient; survival without `classes`.
    classes : sequence of str
        The classes of a label in order; empty for survival.
    years : sequence of float
        Horizons of the survival columns.
    seed : int
        Of the parts.

    Returns
    -------
    DataFrame or None
        The same rows with new survival columns or class probabilities (risk unchanged); None if there are too few
        deaths or patients of a class.
    """
    strata = rows["label"].map(list(classes).index) if classes else rows["event"].astype(int)
    outcomes = strata.value_counts().reindex(range(len(classes)) if classes else [1], fill_value=0)
    if outcomes.min() < MIN_OUTCOMES:
        return None
    part, result = _draw_parts(strata.to_numpy(int), seed), rows.copy()
    for k in range(N_PARTS):
        fitting, other = rows[part != k], rows[part == k]
        columns = [class_column(name) for name in classes] or [survival_column(year) for year in years]
        values = _refit_classes(fitting, other, classes) if classes else _refit_survival(fitting, other, years)
        result.loc[other.index, columns] = values
    return result


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


def _refit_classes(fitting: pd.DataFrame, other: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    columns = [class_column(name) for name in classes]
    label = fitting["label"].map(list(classes).index).to_numpy(int)
    before, probabilities = (part[columns].to_numpy(float) for part in (fitting, other))
    parameters = fit_recalibration(unweighted(len(fitting)), label=label, probabilities=before)[0]
    return apply_recalibration(parameters, probabilities) if np.isfinite(parameters).all() else probabilities
