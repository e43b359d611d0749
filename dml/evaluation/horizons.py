"""Horizons of survival metrics that the follow-up supports, and the censoring weights there.

Censoring and the Kaplan-Meier null are estimated on each fold's training patients, once for all models, so that every
model has the same weights. Shape legend: n patients, t horizons.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dml.core.errors import listed
from dml.core.tasks import horizon_days, survival_column
from dml.evaluation.metrics.kaplan_meier import Curve, censoring_curve, survival_curve
from dml.evaluation.results import Results, Training

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoldCurves:
    """One fold's training patients: probability to be uncensored, to be alive, and the last day of follow-up."""

    uncensored: Curve
    alive: Curve
    last_day: float


@dataclass(frozen=True, slots=True)
class Horizons:
    """Years at which survival is evaluated and each fold's training curves.

    `left_out` maps a configured year to the reason why it is not used.
    """

    years: tuple[float, ...]
    folds: Mapping[int, FoldCurves]
    left_out: Mapping[float, str]

    @property
    def days(self) -> np.ndarray:
        """The horizons ``[t]`` in days."""
        return np.array([horizon_days(year) for year in self.years], float)

    @property
    def tau(self) -> float | None:
        """Truncation of Uno's C in days: the last horizon."""
        return float(self.days[-1]) if self.years else None

    @property
    def primary(self) -> float | None:
        """The year at which calibration is shown: the middle one."""
        return self.years[len(self.years) // 2] if self.years else None

    def uncensored(self, fold: np.ndarray, days: np.ndarray) -> np.ndarray:
        """Each patient's probability to be uncensored at its own days ``[n]``, or at several ``[n t]``."""
        return self._read(fold, days, "uncensored")

    def null_survival(self, fold: np.ndarray) -> np.ndarray:
        """Return what a model that knows nothing predicts ``[n t]``: the training patients' survival."""
        days = np.broadcast_to(self.days, (len(fold), len(self.years)))
        return self._read(fold, days, "alive")

    def _read(self, fold: np.ndarray, days: np.ndarray, name: str) -> np.ndarray:
        values = np.empty(days.shape)
        for key, curves in self.folds.items():
            inside = fold == key
            values[inside] = getattr(curves, name).at(days[inside])
        return values


def select_horizons(results: Results, years: Sequence[float]) -> Horizons:
    """Select the years that the training follow-up of every fold reaches, with a test patient observed for longer."""
    tested = results.patients
    folds = {fold: _curves(results, fold) for fold in results.folds}
    usable, left_out = [], {}
    for year in sorted(years):
        lacking = [name for name, model in results.models.items() if survival_column(year) not in model.rows]
        reason = f"not predicted by {listed(lacking)}" if lacking else _objection(horizon_days(year), folds, tested)
        if reason is None:
            usable.append(year)
        else:
            left_out[year] = reason
            log.warning("%s: no metric at %g years: %s", results.task, year, reason)
    return Horizons(tuple(usable), folds, left_out)


def _curves(results: Results, fold: int) -> FoldCurves:
    """Curves of the largest training set of a fold; of its test patients if no model names its training patients."""
    training_sets = [model.training[fold] for model in results.models.values() if fold in model.training]
    none = Training(np.zeros(0), np.zeros(0, bool), None)
    largest = max(training_sets, key=lambda training: len(training.days), default=none)
    days, event = largest.days, largest.event
    if not len(days):
        log.warning(
            "%s fold %d: no training follow-up, censoring is estimated on the test patients", results.task, fold
        )
        rows = results.patients[results.patients["fold"] == fold]
        days, event = rows["days"].to_numpy(float), rows["event"].to_numpy(bool)
    return FoldCurves(censoring_curve(days, event), survival_curve(days, event), float(days.max()))


def _objection(horizon: int, folds: Mapping[int, FoldCurves], tested: pd.DataFrame) -> str | None:
    """Why nothing can be computed at a horizon; None if it can."""
    days, event = tested["days"].to_numpy(float), tested["event"].to_numpy(bool)
    for fold, curves in folds.items():
        if curves.last_day < horizon or curves.uncensored.at(np.array(horizon)) <= 0:
            return f"the training patients of fold {fold} are not followed for {horizon} days"
    if not (days > horizon).any():
        return f"no test patient is followed for more than {horizon} days"
    if not (event & (days <= horizon)).any():
        return f"no test patient died within {horizon} days"
    return None
