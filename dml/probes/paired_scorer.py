"""The task's leading metric of changed predictions on one set of bootstrap draws, so that differences are paired."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.tasks import Task
from dml.evaluation.intervals import bootstrap_weights, difference, estimate
from dml.evaluation.metric_sets import leading_metric
from dml.evaluation.metrics import Metric


@dataclass(frozen=True, slots=True)
class PairedScorer:
    """Scores predictions of the same test patients.

    `outcomes` has a row per patient in the order of ids (patient_id, fold, target columns); `weights` a column.
    """

    task: Task
    outcomes: pd.DataFrame
    weights: np.ndarray
    confidence: float

    @classmethod
    def of(cls, task: Task, outcomes: pd.DataFrame, settings: config.Evaluation, seed: int) -> "PairedScorer":
        """Draw the resamples."""
        weights = bootstrap_weights(outcomes["fold"].to_numpy(int), settings.resamples, seed)
        return cls(task, outcomes, weights, settings.confidence)

    def metric(self, *predictions: pd.DataFrame) -> Metric:
        """Mean of the leading metric over several predictions of all patients."""
        metrics = [leading_metric(self._merge(rows), self.task.kind, self.task.classes) for rows in predictions]
        return lambda weights: np.mean([metric(weights) for metric in metrics], axis=0)

    def value(self, metric: Metric) -> dict[str, Any] | None:
        """Return a metric with its interval; None where it is not defined."""
        result = estimate(metric, self.weights, self.confidence)
        return None if result is None else result.to_json()

    def difference(self, one: Metric, other: Metric) -> dict[str, Any] | None:
        """Return the paired difference of two metrics with interval and p; None where one is not defined."""
        result = difference(one, other, self.weights, self.confidence)
        return None if result is None else result.to_json()

    def restrict(self, inside: np.ndarray) -> "PairedScorer":
        """Return a scorer of some of the patients on the same draws."""
        return replace(self, outcomes=self.outcomes[inside].reset_index(drop=True), weights=self.weights[:, inside])

    def _merge(self, rows: pd.DataFrame) -> pd.DataFrame:
        predictions = rows.drop(columns=[name for name in rows if name in self.outcomes and name != "patient_id"])
        return self.outcomes.merge(predictions, on="patient_id", validate="one_to_one")
