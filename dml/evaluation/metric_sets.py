"""The metrics of a task: each registered function with one model's predictions filled in, where they suffice."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any, get_args

import numpy as np
import pandas as pd

from dml.core.tasks import VALUE_COLUMNS, class_column, survival_column
from dml.core.types import Kind
from dml.evaluation.horizons import Horizons
from dml.evaluation.metrics import Metric
from dml.evaluation.metrics.calibration import log_cumulative_hazard
from dml.evaluation.metrics.registry import entries

PRIMARY: Mapping[str, str] = {entry.kind: entry.name for entry in entries() if entry.leading}
"""The metric that leads tables and figures, by kind of task."""
MAIN: Mapping[str, tuple[str, ...]] = {
    kind: tuple(entry.name for entry in entries(kind) if entry.main) for kind in get_args(Kind)
}
"""Metrics of the main table, after which those per horizon or class follow."""


def main_metrics(reported: Collection[str]) -> list[str]:
    """Return the main metrics among those of a report, the leading one of its kind of task first.

    Examples
    --------
    >>> main_metrics(["calibration_slope", "auc", "brier"])
    ['auc', 'brier', 'calibration_slope']
    """
    kinds = sorted(MAIN, key=lambda kind: PRIMARY[kind] not in reported)
    return [name for name in dict.fromkeys(name for kind in kinds for name in MAIN[kind]) if name in reported]


def leading_metric(rows: pd.DataFrame, kind: Kind, classes: Sequence[str]) -> Metric:
    """Return Harrell's C of survival, the macro AUC of classes, or Spearman's rho of numbers (rows as for the sets)."""
    if kind == "survival":
        inputs = ranking_inputs(rows)
    else:
        inputs = class_inputs(rows, classes) if kind == "classification" else number_inputs(rows)
    metric = next(entry for entry in entries(kind) if entry.leading).bind(inputs)
    if metric is None:
        raise TypeError(f"the leading metric of {kind} asks for more than {', '.join(inputs)}")
    return metric


def survival_metrics(rows: pd.DataFrame, horizons: Horizons) -> dict[str, Metric]:
    """Return the metrics of survival predictions in the order of tables, those per horizon horizon by horizon.

    Parameters
    ----------
    rows : DataFrame
        One row a patient: fold, days, event, risk, survival_<days>.
    horizons : Horizons
        Years at which survival is evaluated; without any, only what needs none is returned.
    """
    inputs = survival_inputs(rows, horizons)
    curves = inputs["survival"].T if horizons.years else ()
    each = [
        {"year": f"{year:g}", "horizon": days, "survival": curve}
        for year, days, curve in zip(horizons.years, horizons.days, curves, strict=True)
    ]
    return _bind("survival", inputs, each)


def class_metrics(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Metric]:
    """Return the metrics of class probabilities in the order of tables, those per class class by class.

    Parameters
    ----------
    rows : DataFrame
        One row a patient: fold, label, p_<class>.
    classes : sequence of str
        The label's values in order.
    """
    inputs = class_inputs(rows, classes)
    label, probabilities = inputs["label"], inputs["probabilities"]
    each = [
        {"class": name, "positive": k, "score": score, "probability": score, "inside": label == k}
        for k, (name, score) in enumerate(zip(classes, probabilities.T, strict=True))
    ]
    return _bind("classification", inputs, each)


def number_metrics(rows: pd.DataFrame) -> dict[str, Metric]:
    """Return the metrics of predicted numbers in the order of tables.

    Parameters
    ----------
    rows : DataFrame
        One row a patient: fold, target, value, value_lower, value_upper.
    """
    return _bind("regression", number_inputs(rows), ())


def number_inputs(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what metrics of numbers may ask for, by name."""
    columns = dict(zip(("value", "lower", "upper"), VALUE_COLUMNS, strict=True)) | {"target": "target"}
    return {name: rows[column].to_numpy(float) for name, column in columns.items()} | {
        "fold": rows["fold"].to_numpy(int)
    }


def ranking_inputs(rows: pd.DataFrame) -> dict[str, Any]:
    """Return columns days, event, risk and fold as arrays."""
    days, risk = (rows[name].to_numpy(float) for name in ("days", "risk"))
    return {"days": days, "event": rows["event"].to_numpy(bool), "risk": risk, "fold": rows["fold"].to_numpy(int)}


def survival_inputs(rows: pd.DataFrame, horizons: Horizons) -> dict[str, Any]:
    """Return what survival metrics may ask for, by name."""
    inputs = ranking_inputs(rows)
    if horizons.tau is None or horizons.primary is None:
        return inputs
    fold = inputs["fold"]
    survival = rows[[survival_column(year) for year in horizons.years]].to_numpy(float)
    return inputs | {
        "survival": survival,
        "horizons": horizons.days,
        "tau": horizons.tau,
        "uncensored": horizons.uncensored(fold, inputs["days"]),
        "uncensored_at": horizons.uncensored(fold, np.broadcast_to(horizons.days, survival.shape)),
        "null_survival": horizons.null_survival(fold),
        "predictor": log_cumulative_hazard(survival[:, horizons.years.index(horizons.primary)]),
    }


def class_inputs(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Return what classification metrics may ask for, by name."""
    probabilities = rows[[class_column(name) for name in classes]].to_numpy(float)
    return {
        "label": rows["label"].map({name: k for k, name in enumerate(classes)}).to_numpy(int),
        "probabilities": probabilities,
        "predicted": probabilities.argmax(axis=1),
        "classes": len(classes),
        "fold": rows["fold"].to_numpy(int),
    }


def _bind(kind: Kind, inputs: Mapping[str, Any], each: Sequence[Mapping[str, Any]]) -> dict[str, Metric]:
    """Bind all metrics of a kind; `each` is what is added to the inputs per horizon or class."""
    metrics: dict[str, Metric] = {}
    for repeated, group in groupby(entries(kind), key=lambda entry: entry.repeated):
        members = list(group)
        for added in each if repeated else [{}]:
            bound = {entry.name.format(**added): entry.bind({**inputs, **added}) for entry in members}
            metrics |= {name: metric for name, metric in bound.items() if metric is not None}
    return metrics
