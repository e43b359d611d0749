"""Every model's metrics with intervals, overall and in subgroups, and paired differences between models."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.errors import InputError, listed
from dml.evaluation.horizons import Horizons
from dml.evaluation.intervals import bootstrap_weights, difference, estimate, holm
from dml.evaluation.metric_sets import ONLY_OVERALL, class_panel, survival_panel
from dml.evaluation.metrics import Metric
from dml.evaluation.results import CLINICAL, RECALIBRATED, Results, knows_clinical, reranked
from dml.evaluation.rounding import rounded
from dml.models.registry import is_baseline

log = logging.getLogger(__name__)

COMPARED = ("c_index", "c_uno", "ibs", "auc", "balanced_accuracy", "brier")
"""Metrics of which differences between models are tested."""


@dataclass(frozen=True, slots=True)
class Omission:
    """A metric that could not be computed; `fold` None = overall."""

    model: str
    metric: str
    fold: int | None
    reason: str


@dataclass(slots=True)
class Scorer:
    """Scores models on one set of bootstrap draws; collects what it had to leave out in `omissions`."""

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
        """Draw the resamples and find the subgroups' patients."""
        weights = bootstrap_weights(results.patients["fold"].to_numpy(int), settings.resamples, seed)
        named = {name: members(patients, rule) for name, rule in settings.subgroups.items()}
        return cls(results, horizons, settings, weights, named)

    def metrics(self) -> dict[str, dict[str, dict[str, Any]]]:
        """``{model: {metric: {"value", "ci_low", "ci_high", "folds"}}}``, subgroup metrics as <metric>_<subgroup>."""
        scored = {name: self._scored(name, model.rows) for name, model in self.results.models.items()}
        for subgroup, inside in self.subgroups.items():
            for name, model in self.results.models.items():
                kept = model.rows[model.rows["patient_id"].isin(inside)]
                scored[name] |= self._scored(name, kept, subgroup)
        return scored

    def compare(self, pairs: Mapping[str, list[str]]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
        """Paired differences ``{model: {reference: {metric: {...}}}}`` on the patients that both models have."""
        return {
            model: self._adjusted({reference: self._differences(model, reference) for reference in references})
            for model, references in pairs.items()
        }

    def _scored(self, model: str, rows: pd.DataFrame, subgroup: str | None = None) -> dict[str, dict[str, Any]]:
        suffix = f"_{subgroup}" if subgroup else ""
        if rows.empty:
            self._omit(model, f"*{suffix}", None, "no test patient of the model is in the subgroup")
            return {}
        weights, scored = self._drawn(rows), {}
        for name, metric in self._panel(rows).items():
            if subgroup and name in ONLY_OVERALL:
                continue
            found = estimate(metric, weights, self.settings.confidence)
            if found is None:
                self._omit(model, name + suffix, None, "not defined on these patients or in too many resamples")
                continue
            scored[name + suffix] = {
                "value": rounded(found.value),
                "ci_low": rounded(found.low),
                "ci_high": rounded(found.high),
                "folds": self._by_fold(model, name + suffix, metric, rows),
            }
        return scored

    def _by_fold(self, model: str, name: str, metric: Metric, rows: pd.DataFrame) -> list[float | None]:
        """Return the metric inside each fold, in order; None (null in JSON) where a fold has nothing to judge."""
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
        panels, weights = (self._panel(one), self._panel(other)), self._drawn(one)
        differences = {}
        for name in (metric for metric in COMPARED if metric in panels[0]):
            found = difference(panels[0][name], panels[1][name], weights, self.settings.confidence)
            if found is not None:
                interval = {"ci_low": rounded(found.low), "ci_high": rounded(found.high)}
                whole = {"difference": rounded(found.value), **interval, "p": rounded(found.p)}
                differences[name] = {**whole, "patients": len(shared)}
        return differences

    @staticmethod
    def _adjusted(compared: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
        """Add p_holm: corrected over the references of one model, metric by metric."""
        for metric in {name for found in compared.values() for name in found}:
            raw = {reference: found[metric]["p"] for reference, found in compared.items() if metric in found}
            for reference, value in holm(raw).items():
                compared[reference][metric]["p_holm"] = rounded(value)
        return compared

    def _panel(self, rows: pd.DataFrame) -> dict[str, Metric]:
        if self.horizons is not None:
            return survival_panel(rows, self.horizons)
        return class_panel(rows, self.results.classes)

    def _drawn(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the columns of the draws that belong to some rows (both in the order of patient ids)."""
        position = pd.Index(self.results.patients["patient_id"]).get_indexer(rows["patient_id"])
        return np.asarray(self.weights[:, position])

    def _omit(self, model: str, metric: str, fold: int | None, reason: str) -> None:
        where = "" if fold is None else f" in fold {fold}"
        log.warning("%s %s: %s%s left out: %s", self.results.task, model, metric, where, reason)
        self.omissions.append(Omission(model, metric, fold, reason))


def members(patients: pd.DataFrame, rule: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Ids of the patients whose columns have one of the allowed values (numbers are compared as printed, 1.0 as "1").

    Raises
    ------
    InputError
        If there is no such column.
    """
    inside = np.ones(len(patients), bool)
    for column, allowed in rule.items():
        if column not in patients.columns:
            remedy = f"Correct evaluation.subgroups in params.yaml; columns are {listed(list(patients.columns), 20)}"
            raise InputError("patients.parquet", f"no column {column!r} to form a subgroup", remedy)
        inside &= patients[column].map(printed).isin(list(allowed)).to_numpy()
    return set(patients.loc[inside, "patient_id"])


def printed(value: Any) -> str:
    """Print a cell as params.yaml would write it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def comparisons(models: Mapping[str, Any]) -> dict[str, list[str]]:
    """Which models are compared with which: teacher and student with every baseline, the student with its variants.

    Models that know age and sex are compared among themselves, and those that do not.
    """
    pairs: dict[str, list[str]] = {}
    for suffix in ("", CLINICAL):
        references = [name for name in models if is_baseline(name) and knows_clinical(name) == bool(suffix)]
        pairs["teacher" + suffix] = [name for name in models if name == "student" + suffix] + references
        own = "student_undistilled" + suffix
        pairs["student" + suffix] = [name for name in models if name == own] + references
    pairs |= {name: [name.removesuffix(RECALIBRATED)] for name in models if not reranked(name)}
    return {model: references for model, references in pairs.items() if model in models and references}
