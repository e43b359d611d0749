"""The regression of a linear baseline on a design matrix: Cox for survival, logistic for classes, ridge for numbers.

Shape legend: n patients, k columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from dml.baselines.linear.null import ClassShares, KaplanMeierNull, MeanNumber
from dml.core.tasks import (
    VALUE_COLUMNS,
    ClassificationTask,
    RegressionTask,
    SurvivalTask,
    horizon_columns,
    make_task,
)
from dml.core.types import Case
from dml.linear_models.cox import Cox
from dml.linear_models.logistic import Logistic
from dml.linear_models.ridge import Ridge


@dataclass(frozen=True, slots=True)
class SurvivalRegression:
    """Penalised Cox regression; `horizons` maps the name of a survival column to its days."""

    horizons: Mapping[str, int]
    task: SurvivalTask = field(default_factory=SurvivalTask)

    def fit(self, columns: np.ndarray, cases: Sequence[Case], penalty: float) -> Cox | KaplanMeierNull:
        """Fit Cox, or Kaplan-Meier without columns."""
        days, event = _follow_up(cases)
        return Cox.fit(columns, days, event, penalty) if columns.shape[1] else KaplanMeierNull.fit(days, event)

    def predict(self, model: Any, columns: np.ndarray, cases: Sequence[Case]) -> dict[str, Any]:
        """Return risk, survival at each horizon, days and event."""
        curves = model.survival(columns, list(self.horizons.values()))
        survival = {name: curves[:, i] for i, name in enumerate(self.horizons)}
        days, event = _follow_up(cases)
        return {"risk": model.risk(columns), **survival, "days": days, "event": event}

    def metadata(self, model: Any, columns: np.ndarray, cases: Sequence[Case]) -> dict[str, Any]:
        """Return the metadata of predictions: median training risk and training follow-up."""
        days, event = _follow_up(cases)
        follow_up = {"train_days": days.tolist(), "train_event": event.tolist()}
        cutoff = float(np.median(model.risk(columns)))
        return {"task": self.task.name, "kind": self.task.kind, "classes": [], "train_cutoff": cutoff, **follow_up}

    def linear_predictor(self, rows: pd.DataFrame) -> np.ndarray:
        """Return log cumulative hazards [n 1] of predictions: the mean over the horizons of log(-log S)."""
        survival = np.clip(rows[list(self.horizons)].to_numpy(float), 1e-6, 1 - 1e-6)
        return np.asarray(np.log(-np.log(survival)).mean(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class ClassRegression:
    """Penalised multinomial logistic regression of a label."""

    task: ClassificationTask

    def fit(self, columns: np.ndarray, cases: Sequence[Case], penalty: float) -> Logistic | ClassShares:
        """Fit logistic regression, or class shares without columns."""
        classes = self.task.classes
        label = np.array([classes.index(case.labels[self.task.name]) for case in cases], int)
        return Logistic.fit(columns, label, classes, penalty) if columns.shape[1] else ClassShares.fit(label, classes)

    def predict(self, model: Any, columns: np.ndarray, cases: Sequence[Case]) -> dict[str, Any]:
        """Return the probability of each class, and the label."""
        probabilities = model.probabilities(columns)
        by_class = {name: probabilities[:, k] for k, name in enumerate(self.task.output_columns())}
        return {**by_class, "label": [case.labels[self.task.name] for case in cases]}

    def metadata(self, model: Any, columns: np.ndarray, cases: Sequence[Case]) -> dict[str, Any]:
        """Return the metadata of predictions; a cut-off and follow-up do not apply."""
        unused: dict[str, Any] = {"train_cutoff": None, "train_days": [], "train_event": []}
        return {"task": self.task.name, "kind": self.task.kind, "classes": list(self.task.classes), **unused}

    def linear_predictor(self, rows: pd.DataFrame) -> np.ndarray:
        """Return log-odds [n k-1] of predictions against the first class."""
        log_p = np.log(np.clip(rows[self.task.output_columns()].to_numpy(float), 1e-6, 1.0))
        return np.asarray(log_p[:, 1:] - log_p[:, :1])


@dataclass(frozen=True, slots=True)
class NumberRegression:
    """Ridge regression of a number."""

    task: RegressionTask

    def fit(self, columns: np.ndarray, cases: Sequence[Case], penalty: float) -> Ridge | MeanNumber:
        """Fit ridge regression, or the mean without columns."""
        values = self._values(cases)
        return Ridge.fit(columns, values, penalty) if columns.shape[1] else MeanNumber.fit(values)

    def predict(self, model: Any, columns: np.ndarray, cases: Sequence[Case]) -> dict[str, Any]:
        """Return the number, the ends of its interval, and the target."""
        outputs = dict(zip(VALUE_COLUMNS, model.predict(columns).T, strict=True))
        return {**outputs, "target": self._values(cases)}

    def metadata(self, model: Any, columns: np.ndarray, cases: Sequence[Case]) -> dict[str, Any]:
        """Return the metadata of predictions; a cut-off and follow-up do not apply."""
        unused: dict[str, Any] = {"train_cutoff": None, "train_days": [], "train_event": []}
        return {"task": self.task.name, "kind": self.task.kind, "classes": [], **unused}

    def linear_predictor(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the predicted numbers [n 1]."""
        return rows[[VALUE_COLUMNS[0]]].to_numpy(float)

    def _values(self, cases: Sequence[Case]) -> np.ndarray:
        return np.array([case.values[self.task.name] for case in cases], float)


Regression = SurvivalRegression | ClassRegression | NumberRegression


def make_regression(task: str, classes: Mapping[str, Sequence[str]], years: Sequence[float]) -> Regression:
    """Return the regression of a task.

    Parameters
    ----------
    task : str
        "survival", or a label.
    classes : mapping
        Classes of each label of the cohort; none of a number.
    years : sequence of float
        Horizons at which survival is predicted.
    """
    definition = make_task(task, classes)
    if isinstance(definition, SurvivalTask):
        return SurvivalRegression(horizon_columns(years))
    if isinstance(definition, RegressionTask):
        return NumberRegression(definition)
    return ClassRegression(definition)


def _follow_up(cases: Sequence[Case]) -> tuple[np.ndarray, np.ndarray]:
    follow_up = [case.survival for case in cases if case.survival is not None]
    return np.array([s.days for s in follow_up], float), np.array([s.event for s in follow_up], bool)
