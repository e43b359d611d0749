"""Predicted against observed: survival at a horizon, or class shares, by fifths of the prediction; confusion tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dml.core.tasks import class_column, horizon_days, survival_column
from dml.evaluation.intervals import wilson_interval
from dml.evaluation.metrics.kaplan_meier import kaplan_meier
from dml.evaluation.results import ModelResult
from dml.models.registry import label as model_label
from dml.report.figures import CLASSES, FAINT, INK, LOW, drawing

N_GROUPS = 5
MAX_LETTERS = 8
"""Letters of a class name beyond which it is rotated."""
Z95 = 1.959963984540054


def quantile_groups(predicted: np.ndarray) -> list[np.ndarray]:
    """Return indices of up to `N_GROUPS` groups of like size, from low to high predictions; ties stay together."""
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, N_GROUPS + 1)[1:-1]))
    group = np.searchsorted(edges, predicted, side="left")
    return [np.flatnonzero(group == value) for value in np.unique(group)]


def draw_survival_calibration(models: Sequence[ModelResult], year: float, path: Path) -> None:
    """Draw Kaplan-Meier survival at a horizon against the mean prediction, with its interval, by fifths."""
    with drawing(path, 2.9 * len(models) + 0.4, 3.5) as figure:
        for axes, model in zip(np.atleast_1d(figure.subplots(1, len(models), sharey=True)), models, strict=True):
            predicted = model.rows[survival_column(year)].to_numpy(float)
            points = np.array(
                [_observed(model.rows.iloc[index], predicted[index], year) for index in quantile_groups(predicted)]
            )
            errors = np.abs(points[:, 2:].T - points[:, 1])
            axes.errorbar(points[:, 0], points[:, 1], errors, fmt="o-", color=LOW, linewidth=1, markersize=4)
            _square(axes, model_label(model.name), f"predicted survival at {year:g} y")
        figure.axes[0].set_ylabel("observed (Kaplan-Meier)")


def draw_reliability(models: Sequence[ModelResult], classes: Sequence[str], path: Path) -> None:
    """Draw the observed frequency of each class against the mean of its predicted probability, by fifths."""
    with drawing(path, 2.9 * len(models) + 0.4, 3.5) as figure:
        for axes, model in zip(np.atleast_1d(figure.subplots(1, len(models), sharey=True)), models, strict=True):
            for k, name in enumerate(classes):
                predicted = model.rows[class_column(name)].to_numpy(float)
                truth = (model.rows["label"] == name).to_numpy()
                pairs = [(predicted[i], truth[i]) for i in quantile_groups(predicted)]
                points = np.array(
                    [(p.mean(), true.mean(), *wilson_interval(int(true.sum()), len(true))) for p, true in pairs]
                )
                errors, colour = np.abs(points[:, 2:].T - points[:, 1]), CLASSES[k % len(CLASSES)]
                style: Any = {"color": colour, "linewidth": 1, "markersize": 4, "elinewidth": 0.6, "label": name}
                axes.errorbar(points[:, 0], points[:, 1], errors, fmt="o-", **style)
            _square(axes, model_label(model.name), "predicted probability")
        figure.axes[0].set_ylabel("observed share")
        figure.axes[0].legend(loc="upper left")


def draw_confusion(models: Sequence[ModelResult], classes: Sequence[str], path: Path) -> None:
    """Draw patients by true and most probable class, shaded by share of the true class."""
    crowded = len(classes) > 3 or max(map(len, classes)) > MAX_LETTERS
    high = 1.7 + 0.55 * len(classes) + (0.3 if crowded else 0)
    with drawing(path, (0.8 + 0.55 * len(classes)) * len(models) + 0.8, high) as figure:
        for axes, model in zip(np.atleast_1d(figure.subplots(1, len(models), sharey=True)), models, strict=True):
            counts = confusion_counts(model.rows, classes)
            share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
            for i, j in np.ndindex(counts.shape):
                colour = "white" if share[i, j] > 0.6 else INK
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour)
            axes.set_title(model_label(model.name))
            axes.set_xlabel("predicted")
            turned: Any = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
            axes.set_xticks(range(len(classes)), list(classes), **turned)
            axes.set_yticks(range(len(classes)), list(classes))
        figure.axes[0].set_ylabel("true")


def confusion_counts(rows: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Count patients by true class (rows) and most probable class (columns)."""
    predicted = rows[[class_column(name) for name in classes]].to_numpy(float).argmax(axis=1)
    label = rows["label"].map({name: k for k, name in enumerate(classes)}).to_numpy(int)
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (label, predicted), 1)
    return counts


def _observed(rows: pd.DataFrame, predicted: np.ndarray, year: float) -> tuple[float, float, float, float]:
    """Mean prediction, observed survival, and its interval, of one group of patients."""
    curve = kaplan_meier(rows["days"].to_numpy(float), rows["event"].to_numpy(bool))
    step = int(np.searchsorted(curve.days, horizon_days(year), side="right")) - 1
    if step < 0:
        return float(predicted.mean()), 1.0, 1.0, 1.0
    return float(predicted.mean()), float(curve.survival[step]), float(curve.low[step]), float(curve.high[step])


def _square(axes: Axes, name: str, label: str) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=name, xlabel=label)
    axes.set_box_aspect(1)
