"""Every model's metrics with intervals, overall and in subgroups, and paired differences between models."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.model_name import ModelName
from dml.evaluation.horizons import Horizons
from dml.evaluation.intervals import bootstrap_weights, difference, estimate, holm, rounded
from dml.evaluation.metric_sets import class_metrics, number_metrics, survival_metrics
from dml.evaluation.metrics import Metric
from dml.evaluation.metrics.registry import entries, find
from dml.evaluation.results import Results, reads_clinical
from dml.evaluation.subgroup_rules import patients_in_subgroup
from dml.models.registry import is_baseline, our_names

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Omission:
    """A metric that could not be computed; `fold` None = overall."""

    model: str
    metric: str
    fold: int | None
    reason: str


@dataclass(slots=True)
class Scorer:
    """Scores models on one set of bootstrap draws; `omissions` lists what could not be computed."""

    results: Results
    horizons: Horizons | None
    settings: config.Evaluation
    weights: np.ndarray
    subgroups: Mapping[str, set[str]]
    omissions: list[Omission] = field(default_factory=list)

    @classmethod
    def of(
        cls, results: Results, horizons: Horizons | None, patients: pd.DataFrame, settings: config.Evaluation, seed: int
    ) -> "Scorer":
        """Draw the resamples and select the subgroups' patients."""
        weights = bootstrap_weights(results.patients["fold"].to_numpy(int), settings.resamples, seed)
        subgroups = {name: patients_in_subgroup(patients, rule) for name, rule in settings.subgroups.items()}
        return cls(results, horizons, settings, weights, subgroups)

    def score_models(self) -> dict[str, dict[str, dict[str, Any]]]:
        """``{model: {metric: {"value", "ci_low", "ci_high", "folds"}}}``, subgroup metrics as <metric>_<subgroup>."""
        scores = {name: self._score(name, model.rows) for name, model in self.results.models.items()}
        for subgroup, inside in self.subgroups.items():
            for name, model in self.results.models.items():
                rows = model.rows[model.rows["patient_id"].isin(inside)]
                scores[name] |= self._score(name, rows, subgroup)
        return scores

    def compare(self, pairs: Mapping[str, list[str]]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
        """Paired differences ``{model: {reference: {metric: {...}}}}`` on the patients that both models have."""
        return {
            model: _add_holm({reference: self._differences(model, reference) for reference in references})
            for model, references in pairs.items()
        }

    def _score(self, model: str, rows: pd.DataFrame, subgroup: str | None = None) -> dict[str, dict[str, Any]]:
        suffix = f"_{subgroup}" if subgroup else ""
        if rows.empty:
            self._omit(model, f"*{suffix}", None, "no test patient of the model is in the subgroup")
            return {}
        weights, scores = self._weights_of(rows), {}
        for name, metric in self._metrics_of(rows).items():
            entry = find(name, self.results.kind)
            if subgroup and entry is not None and entry.overall_only:
                continue
            result = estimate(metric, weights, self.settings.confidence)
            if result is None:
                self._omit(model, name + suffix, None, "not defined on these patients or in too many resamples")
                continue
            scores[name + suffix] = {**result.to_json(), "folds": self._by_fold(model, name + suffix, metric, rows)}
        return scores

    def _by_fold(self, model: str, name: str, metric: Metric, rows: pd.DataFrame) -> list[float | None]:
        """Return the metric inside each fold, in order; None (null in JSON) where it is not defined."""
        inside = np.array([rows["fold"].to_numpy() == fold for fold in self.results.folds], float)
        values: list[float | None] = [rounded(value) for value in metric(inside)]
        for fold, value in zip(self.results.folds, values, strict=True):
            if value is None:
                self._omit(model, name, fold, "not defined on this fold's patients")
        return values

    def _differences(self, model: str, reference: str) -> dict[str, dict[str, Any]]:
        one, other = self.results.models[model].rows, self.results.models[reference].rows
        shared = set(one["patient_id"]) & set(other["patient_id"])
        if not shared:
            return {}
        one, other = (rows[rows["patient_id"].isin(shared)] for rows in (one, other))
        metrics, others, weights = self._metrics_of(one), self._metrics_of(other), self._weights_of(one)
        compared = [entry.name for entry in entries(self.results.kind) if entry.compared and entry.name in metrics]
        results = {
            name: difference(metrics[name], others[name], weights, self.settings.confidence) for name in compared
        }
        return {
            name: {**result.to_json(), "patients": len(shared)}
            for name, result in results.items()
            if result is not None
        }

    def _metrics_of(self, rows: pd.DataFrame) -> dict[str, Metric]:
        if self.horizons is not None:
            return survival_metrics(rows, self.horizons)
        if self.results.kind == "regression":
            return number_metrics(rows)
        return class_metrics(rows, self.results.classes)

    def _weights_of(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the columns of the draws that belong to some rows (both in the order of patient ids)."""
        position = pd.Index(self.results.patients["patient_id"]).get_indexer(rows["patient_id"])
        return np.asarray(self.weights[:, position])

    def _omit(self, model: str, metric: str, fold: int | None, reason: str) -> None:
        where = "" if fold is None else f" in fold {fold}"
        log.warning("%s %s: %s%s left out: %s", self.results.task, model, metric, where, reason)
        self.omissions.append(Omission(model, metric, fold, reason))


def _add_holm(compared: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Add p_holm: corrected over the references of one model, metric by metric."""
    for metric in {name for differences in compared.values() for name in differences}:
        raw = {reference: entry[metric]["p"] for reference, entry in compared.items() if metric in entry}
        for reference, value in holm(raw).items():
            compared[reference][metric]["p_holm"] = rounded(value)
    return compared


def comparison_pairs(models: Iterable[str]) -> dict[str, list[str]]:
    """Each model with its references: teacher and student with the next of ours and every baseline.

    Models that read age and sex are compared among themselves, and those that do not; a recalibrated model is compared
    with what it was before.
    """
    models, pairs = list(models), {}
    for clinical in (False, True):
        baselines = [name for name in models if is_baseline(name) and reads_clinical(name) == clinical]
        for model, other in pairwise(str(ModelName(name, clinical)) for name in our_names()):
            pairs[model] = [name for name in models if name == other] + baselines
    names = {name: ModelName.parse(name) for name in models}
    pairs |= {text: [str(replace(name, recalibrated=False))] for text, name in names.items() if name.recalibrated}
    return {model: references for model, references in pairs.items() if model in models and references}
