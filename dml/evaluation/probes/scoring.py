"""The task's leading metric of changed predictions, on one set of bootstrap draws, so that differences are paired."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.evaluation.intervals import bootstrap_weights, difference, estimate
from dml.evaluation.metric_sets import leading_metric
from dml.evaluation.metrics import Metric
from dml.evaluation.rounding import rounded


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges predictions of the same test patients.

    `truth` has a row per patient in the order of ids (patient_id, fold, what was observed); `weights` a column.
    """

    kind: str
    classes: tuple[str, ...]
    truth: pd.DataFrame
    weights: np.ndarray
    confidence: float

    @classmethod
    def of(
        cls, kind: str, classes: Sequence[str], truth: pd.DataFrame, settings: config.Evaluation, seed: int
    ) -> "Judge":
        """Draw the resamples."""
        weights = bootstrap_weights(truth["fold"].to_numpy(int), settings.resamples, seed)
        return cls(kind, tuple(classes), truth, weights, settings.confidence)

    def metric(self, *each: pd.DataFrame) -> Metric:
        """Mean of the leading metric over several predictions of all patients."""
        metrics = [leading_metric(self._beside_truth(rows), self.kind, self.classes) for rows in each]
        return lambda weights: np.mean([metric(weights) for metric in metrics], axis=0)

    def value(self, metric: Metric) -> dict[str, Any] | None:
        """Return a metric with its interval; None where it is not defined."""
        found = estimate(metric, self.weights, self.confidence)
        if found is None:
            return None
        return {"value": rounded(found.value), "ci_low": rounded(found.low), "ci_high": rounded(found.high)}

    def apart(self, one: Metric, other: Metric) -> dict[str, Any] | None:
        """Return the paired difference of two metrics with interval and p; None where one is not defined."""
        found = difference(one, other, self.weights, self.confidence)
        if found is None:
            return None
        ends = {"ci_low": rounded(found.low), "ci_high": rounded(found.high)}
        return {"difference": rounded(found.value), **ends, "p": rounded(found.p)}

    def restricted(self, inside: np.ndarray) -> "Judge":
        """Judge only some of the patients, on the same draws."""
        return replace(self, truth=self.truth[inside].reset_index(drop=True), weights=self.weights[:, inside])

    def _beside_truth(self, rows: pd.DataFrame) -> pd.DataFrame:
        said = rows.drop(columns=[name for name in rows if name in self.truth and name != "patient_id"])
        return self.truth.merge(said, on="patient_id", validate="one_to_one")
