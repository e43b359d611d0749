"""The leading metric inside groups of patients by age, sex, site and labels, each beside the patients outside of it.

A group is judged only if it has enough patients and events for a number to mean anything; the others are listed. The p
of the difference between inside and outside is corrected over all groups of a model (Holm).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.evaluation.intervals import Difference, difference, estimate, holm
from dml.evaluation.metric_sets import leading_metric
from dml.evaluation.metrics import Metric
from dml.evaluation.results import Results
from dml.evaluation.rounding import rounded

SEX = {1.0: "female", 0.0: "male"}


@dataclass(frozen=True, slots=True)
class Group:
    """Patients that share a value of a column; `outcomes` are deaths, or those outside the group's commonest class."""

    column: str
    value: str
    patients: frozenset[str]
    outcomes: int


def groups_of(results: Results, patients: pd.DataFrame, labels: Sequence[str]) -> Iterator[Group]:
    """Cut the test patients by age (at the median, in whole years), sex, site and labels other than the task."""
    tested = results.patients.drop(columns="site").merge(patients, on="patient_id", suffixes=("", "_known"))
    for column in ("age", "sex", "site", *(name for name in labels if name != results.task)):
        if column in tested:
            values = _values(tested[column], column)
            for value in sorted(values.dropna().unique()):
                inside = tested[values == value]
                yield Group(column, str(value), frozenset(inside["patient_id"]), _outcomes(inside, results))


def subgroup_results(
    results: Results, weights: np.ndarray, groups: Sequence[Group], models: Sequence[str], settings: config.Evaluation
) -> dict[str, Any]:
    """Score some models in every group that is large enough.

    Parameters
    ----------
    weights : [r n]
        Bootstrap draws of the test patients, in the order of their ids.
    groups : sequence of Group
        From `groups_of`.
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
    scored = {name: _of_model(results, name, weights, large, settings.confidence) for name in models}
    rows = [
        {**_described(group), "models": {name: own[i] for name, own in scored.items() if own[i] is not None}}
        for i, group in enumerate(large)
    ]
    floors = {"patients": settings.min_patients, "outcomes": settings.min_events}
    too_small = [_described(group) for group in groups if group not in large]
    undefined = [{k: v for k, v in row.items() if k != "models"} for row in rows if not row["models"]]
    known = [row for row in rows if row["models"]]
    return {"groups": known, "too_small": too_small, "undefined": undefined, "floors": floors}


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
    return len(inside) - int(inside["label"].value_counts().max())


def _described(group: Group) -> dict[str, Any]:
    return {
        "column": group.column,
        "value": group.value,
        "patients": len(group.patients),
        "outcomes": group.outcomes,
    }


def _of_model(
    results: Results, name: str, weights: np.ndarray, groups: Sequence[Group], confidence: float
) -> list[dict[str, Any] | None]:
    rows = results.models[name].rows
    position = pd.Index(results.patients["patient_id"]).get_indexer(rows["patient_id"])
    drawn = weights[:, position]
    found: list[dict[str, Any] | None] = []
    for group in groups:
        inside = rows["patient_id"].isin(group.patients).to_numpy()
        own = _restricted(rows, inside, results)
        value = estimate(own, drawn, confidence)
        if value is None:
            found.append(None)
            continue
        # no spread in the resamples (every pair in order): the bootstrap knows nothing of how sure the difference is
        spread = value.low < value.high
        apart = difference(own, _restricted(rows, ~inside, results), drawn, confidence) if spread else None
        found.append(_entry(value.value, value.low, value.high, apart))
    raw = {str(i): e["rest"]["p"] for i, e in enumerate(found) if e is not None and e["rest"] is not None}
    for i, p in holm(raw).items():
        found[int(i)]["rest"]["p_holm"] = rounded(p)  # type: ignore[index]
    return found


def _restricted(rows: pd.DataFrame, inside: np.ndarray, results: Results) -> Metric:
    """Judge some of the rows by their columns of the draws of all."""
    if not inside.any():
        return lambda weights: np.full(len(weights), np.nan)
    metric = leading_metric(rows[inside], results.kind, results.classes)
    return partial(_picked, metric=metric, inside=inside)


def _picked(weights: np.ndarray, metric: Metric, inside: np.ndarray) -> np.ndarray:
    return metric(weights[:, inside])


def _entry(value: float, low: float, high: float, apart: Difference | None) -> dict[str, Any]:
    rest: Mapping[str, Any] | None = None
    if apart is not None:
        ends = {"ci_low": rounded(apart.low), "ci_high": rounded(apart.high)}
        rest = {"difference": rounded(apart.value), **ends, "p": rounded(apart.p)}
    return {"value": rounded(value), "ci_low": rounded(low), "ci_high": rounded(high), "rest": rest}
