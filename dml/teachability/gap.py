"""The gap between slide and slide + genes, taken apart into what a slide predicts of the genes' risk and the rest.

    gap        = M(slide, genes) - M(slide)
    teachable  = M(slide, predicted) - M(slide)
    residual   = M(slide, genes) - M(slide, predicted) = gap - teachable

M is the task's leading metric (Harrell's C, macro AUC) of a regression on the named scores. docs/teachability.md
defines the scores and states the limits. Shape legend: r resamples (the first row counts every patient once).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Real

from dml.core.tasks import VALUE_COLUMNS, class_column
from dml.core.types import Kind
from dml.evaluation.intervals import MAX_UNDEFINED_SHARE, evaluate_resamples, rounded, two_sided_p
from dml.evaluation.metrics import Metric
from dml.evaluation.metrics.registry import MetricEntry, entries
from dml.teachability.ratio import fieller

DIFFERENCES: Mapping[str, tuple[str, str]] = {
    "gap": ("slide_genes", "slide"),
    "teachable": ("slide_predicted", "slide"),
    "residual": ("slide_genes", "slide_predicted"),
    "unpredictable": ("slide_residual", "slide"),
}
"""Differences between arms: of what, less what. `unpredictable` is the residual score's own gain, beside the sum."""
Draws = Mapping[str, Float[np.ndarray, "r"]]
"""Metric of each arm or model, on all patients and in every resample."""


def leading(kind: Kind) -> MetricEntry:
    """Return the metric that leads the reports of a kind of task."""
    return next(entry for entry in entries(kind) if entry.leading)


def bind_metric(rows: pd.DataFrame, kind: Kind, classes: Sequence[str]) -> Metric:
    """Return the leading metric of one model's test predictions: fold, and risk or class probabilities, and targets."""
    inputs: dict[str, Any] = {"fold": rows["fold"].to_numpy(int)}
    if kind == "classification":
        inputs["probabilities"] = rows[[class_column(name) for name in classes]].to_numpy(float)
        inputs["label"] = rows["label"].map({name: k for k, name in enumerate(classes)}).to_numpy(int)
    elif kind == "regression":
        inputs |= {name: rows[name].to_numpy(float) for name in (VALUE_COLUMNS[0], "target")}
    else:
        inputs["days"], inputs["event"] = rows["days"].to_numpy(float), rows["event"].to_numpy(bool)
        inputs["risk"] = rows["risk"].to_numpy(float)
    metric = leading(kind).bind(inputs)
    if metric is None:
        raise TypeError(f"the leading metric of {kind} asks for more than {', '.join(inputs)}")
    return metric


def draw(metric: Metric, weights: Real[np.ndarray, "r n"]) -> Float[np.ndarray, "r"]:
    """Evaluate a metric once on all patients and then in every resample."""
    return evaluate_resamples(metric, np.concatenate([np.ones((1, weights.shape[1])), weights]))


def decompose(draws: Draws, confidence: float) -> dict[str, Any]:
    """Return the arms, their differences and the teachable share of the gap, each with an interval."""
    differences = {name: draws[one] - draws[other] for name, (one, other) in DIFFERENCES.items()}
    return {
        "arms": {name: describe(values, confidence) for name, values in draws.items()},
        **{name: describe_difference(values, confidence) for name, values in differences.items()},
        "teachable_share": fieller(differences["teachable"], differences["gap"], confidence).to_json(),
    }


def describe(values: Float[np.ndarray, "r"], confidence: float) -> dict[str, float | None]:
    """Return value and percentile interval of resampled values; without an interval where often undefined."""
    finite = values[1:][np.isfinite(values[1:])]
    enough = len(finite) and len(finite) >= (1 - MAX_UNDEFINED_SHARE) * (len(values) - 1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail]) if enough else (np.nan, np.nan)
    return {"value": rounded(values[0]), "ci_low": rounded(low), "ci_high": rounded(high)}


def describe_difference(values: Float[np.ndarray, "r"], confidence: float) -> dict[str, float | None]:
    """Return difference, interval and two-sided bootstrap p of resampled differences."""
    content = describe(values, confidence)
    finite = values[1:][np.isfinite(values[1:])]
    p = rounded(two_sided_p(finite)) if len(finite) else None
    return {"difference": content["value"], "ci_low": content["ci_low"], "ci_high": content["ci_high"], "p": p}
