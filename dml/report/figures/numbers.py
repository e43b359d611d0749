"""Predicted against measured numbers: patients one by one, and the mean of the measured ones by fifths."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from dml.core.tasks import VALUE_COLUMNS
from dml.evaluation.results import ModelResult
from dml.models.registry import label as model_label
from dml.report.figures import FAINT, HIGH, LOW, drawing
from dml.report.figures.calibration import Z95, quantile_groups

MARGIN = 0.04
"""Share of the range that is left free at either end of an axis."""


def draw_measured(models: Sequence[ModelResult], name: str, path: Path) -> None:
    """Draw each test patient's measured number against the predicted one, with its interval; one panel a model."""
    numbers = [model.rows[["target", VALUE_COLUMNS[0]]].to_numpy(float) for model in models]
    with drawing(path, 2.9 * len(models) + 0.4, 3.5) as figure:
        for axes, model in zip(_panels(figure.subplots(1, len(models), sharey=True)), models, strict=True):
            value, lower, upper = (model.rows[column].to_numpy(float) for column in VALUE_COLUMNS)
            target = model.rows["target"].to_numpy(float)
            inside = (target >= lower) & (target <= upper)
            for mask, colour, label in ((inside, LOW, "inside its interval"), (~inside, HIGH, "outside")):
                axes.hlines(target[mask], lower[mask], upper[mask], color=colour, linewidth=0.4, alpha=0.35)
                axes.scatter(value[mask], target[mask], s=9, color=colour, linewidths=0, label=label)
            _square(axes, np.concatenate([part.ravel() for part in numbers]), model_label(model.name), name)
        figure.axes[0].set_ylabel(f"measured {name}")
        figure.axes[0].legend(loc="upper left")


def draw_number_calibration(models: Sequence[ModelResult], name: str, path: Path) -> None:
    """Draw the mean measured number against the mean prediction with its 95 % interval, by fifths of the prediction."""
    points = [_fifths(model) for model in models]
    ends = np.concatenate([[*p[:, 0], *(p[:, 1] - p[:, 2]), *(p[:, 1] + p[:, 2])] for p in points])
    with drawing(path, 2.9 * len(models) + 0.4, 3.5) as figure:
        panels = _panels(figure.subplots(1, len(models), sharey=True))
        for axes, model, fifths in zip(panels, models, points, strict=True):
            predicted, measured, half = fifths.T
            axes.errorbar(predicted, measured, half, fmt="o-", color=LOW, linewidth=1, markersize=4)
            _square(axes, ends, model_label(model.name), name)
        figure.axes[0].set_ylabel(f"measured {name}, mean")


def _fifths(model: ModelResult) -> np.ndarray:
    """Return mean prediction, mean measured number and half the width of its interval, of each group."""
    value, target = (model.rows[column].to_numpy(float) for column in (VALUE_COLUMNS[0], "target"))
    groups = quantile_groups(value)
    errors = [target[i].std(ddof=1) / np.sqrt(len(i)) if len(i) > 1 else 0.0 for i in groups]
    rows = [(value[i].mean(), target[i].mean(), Z95 * error) for i, error in zip(groups, errors, strict=True)]
    return np.array(rows)


def _panels(panels: Axes | np.ndarray) -> np.ndarray:
    return np.atleast_1d(panels)  # type: ignore[arg-type]


def _square(axes: Axes, numbers: np.ndarray, title: str, name: str) -> None:
    low, high = float(numbers.min()), float(numbers.max())
    margin = MARGIN * (high - low) or 1.0
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=FAINT, linewidth=1, zorder=0)
    axes.set(xlim=ends, ylim=ends, title=title, xlabel=f"predicted {name}")
    axes.set_box_aspect(1)
