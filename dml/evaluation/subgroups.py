"""The leading metric inside groups of patients by age, sex, site and labels, each beside the patients outside of it.

A group is evaluated only if it has enough patients and events for a number to mean anything; the others are listed.
The p of the difference between inside and outside is corrected over all groups of a model (Holm).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.evaluation.intervals import difference, estimate, holm, rounded
from dml.evaluation.metric_sets import leading_metric
from dml.evaluation.metrics import Metric
from dml.evaluation.results import Results

SEX = {1.0: "female", 0.0: "male"}


@dataclass(frozen=True, slots=True)
class Group:
    """Patients that share a value of a column; `outcomes` are deaths, or those outside the group's commonest value."""

    column: str
    value: str
    patients: frozenset[str]
    outcomes: int

    def to_json(self) -> dict[str, Any]:
        """Return column, value and the counts."""
        counts = {"patients": len(self.patients), "outcomes": self.outcomes}
        return {"column": self.column, "value": self.value, **counts}


def make_groups(results: Results, patients: pd.DataFrame, labels: Sequence[str]) -> Iterator[Group]:
    """Cut the test patients by age (at the median, in whole years), sex, site and labels other than the task."""
    tested = results.patients.drop(columns="site").merge(patients, on="patient_id", suffixes=("", "_known"))
    for column in ("age", "sex", "site", *(name for name in labels if name != results.task)):
        if column in tested:
            values = _values(tested[column], column)
            for value in sorted(values.dropna().unique()):
                inside = tested[values == value]
                yield Group(column, str(value), frozenset(inside["patient_id"]), _outcomes(inside, results))


def score_subgroups(
    results: Results, weights: np.ndarray, groups: Sequence[Group], models: Sequence[str], settings: config.Evaluation
) -> dict[str, Any]:
    """Score some models in every group that is large enough.

    Parameters
    ----------
    weights : [r n]
        Bootstrap draws of the test patients, in the order of their ids.
    groups : sequence of Group
        From `make_groups`.
    models : sequence of str
        Names of models of the results.
    settings : config.Evaluation
        Floors and confidence.

    Returns
    -------
    dict
        ``groups`` (column, value, patients, outcomes, and per model value, ci_low, ci_high, and the difference to the
        others), ``too_small``, ``undefined`` (large enough, but no model has a number), and the ``floors``.
    """
    large = [g for g in groups if len(g.patients) >= settings.min_patients and g.outcomes >= settings.min_events]
    scores = {name: _score_model(results, name, weights, large, settings.confidence) for name in models}
    of_group = [{name: rows[i] for name, rows in scores.items() if rows[i] is not None} for i in range(len(large))]
    pairs = list(zip(large, of_group, strict=True))
    return {
        "groups": [{**group.to_json(), "models": values} for group, values in pairs if values],
        "too_small": [group.to_json() for group in groups if group not in large],
        "undefined": [group.to_json() for group, values in pairs if not values],
        "floors": {"patients": settings.min_patients, "outcomes": settings.min_events},
    }


def _values(column: pd.Series, name: str) -> pd.Series:
    if name == "sex":
        return column.map(SEX)
    if name != "age":
        return column.astype("object").where(column.notna())
    cut = round(float(column.median())) if column.notna().any() else 0
    return pd.Series(np.where(column < cut, f"below {cut}", f"{cut} and above"), column.index).where(column.notna())


def _outcomes(inside: pd.DataFrame, results: Results) -> int:
    if results.kind == "survival":
        return int(inside["event"].sum())
    return len(inside) - int(inside[results.target_columns[-1]].value_counts().max())


def _score_model(
    results: Results, name: str, weights: np.ndarray, groups: Sequence[Group], confidence: float
) -> list[dict[str, Any] | None]:
    rows = results.models[name].rows
    position = pd.Index(results.patients["patient_id"]).get_indexer(rows["patient_id"])
    draws = weights[:, position]
    scores: list[dict[str, Any] | None] = []
    for group in groups:
        inside = rows["patient_id"].isin(group.patients).to_numpy()
        metric = _restrict(rows, inside, results)
        value = estimate(metric, draws, confidence)
        if value is None:
            scores.append(None)
            continue
        # if all resamples agree (every pair in order), the bootstrap cannot tell how certain the difference is
        varies = value.low < value.high
        rest = difference(metric, _restrict(rows, ~inside, results), draws, confidence) if varies else None
        scores.append({**value.to_json(), "rest": None if rest is None else rest.to_json()})
    compared = {str(i): row["rest"] for i, row in enumerate(scores) if row is not None and row["rest"] is not None}
    for i, p in holm({i: rest["p"] for i, rest in compared.items()}).items():
        compared[i]["p_holm"] = rounded(p)
    return scores


def _restrict(rows: pd.DataFrame, inside: np.ndarray, results: Results) -> Metric:
    """Return the leading metric of some of the rows as a function of the weights of all."""
    if not inside.any():
        return lambda weights: np.full(len(weights), np.nan)
    metric = leading_metric(rows[inside], results.kind, results.classes)
    return lambda weights: metric(weights[:, inside])
