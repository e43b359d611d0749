"""Decision curves of several models against treating everyone and no one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from dml.core.tasks import class_column, horizon_days, survival_column
from dml.evaluation.metrics.decision import net_benefit, net_benefit_survival
from dml.evaluation.results import ModelResult
from dml.models.registry import label as model_label
from dml.report.figures import CLASSES, FAINT, MUTED, drawing

THRESHOLDS = np.linspace(0.05, 0.8, 76)


def draw_survival_decision(models: Sequence[ModelResult], year: float, path: Path) -> None:
    """Draw the net benefit of acting on the predicted probability to die within some years."""
    curves = {}
    for model in models:
        truth = model.rows["days"].to_numpy(float), model.rows["event"].to_numpy(bool), float(horizon_days(year))
        death = 1 - model.rows[survival_column(year)].to_numpy(float)
        curves[model_label(model.name)] = net_benefit_survival(death, *truth, THRESHOLDS)
        everyone = net_benefit_survival(np.ones(len(death)), *truth, THRESHOLDS)
    with drawing(path, 5.2, 3.2) as figure:
        axes = figure.subplots()
        _curves(axes, curves, everyone, f"act above this probability to die within {year:g} y")
        axes.set_ylabel("net benefit")
        axes.legend()


def draw_class_decision(models: Sequence[ModelResult], positives: Sequence[str], path: Path) -> None:
    """Draw the net benefit of acting on the predicted probability of each of some classes, one panel a class."""
    with drawing(path, max(3.4 * len(positives), 5.2), 3.4) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(positives)))
        for axes, positive in zip(panels, positives, strict=True):
            curves = {}
            for model in models:
                truth = (model.rows["label"] == positive).to_numpy()
                predicted = model.rows[class_column(positive)].to_numpy(float)
                curves[model_label(model.name)] = net_benefit(predicted, truth, THRESHOLDS)
                everyone = net_benefit(np.ones(len(truth)), truth, THRESHOLDS)
            _curves(axes, curves, everyone, f"act above this probability of {positive}")
        panels[0].set_ylabel("net benefit")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2 + len(models))


def _curves(axes: Axes, curves: Mapping[str, np.ndarray], everyone: np.ndarray, label: str) -> None:
    axes.axhline(0, color=MUTED, linewidth=1, label="no one")
    axes.plot(THRESHOLDS, everyone, color=FAINT, linewidth=2.5, label="everyone")
    for (name, curve), colour in zip(curves.items(), CLASSES, strict=False):
        axes.plot(THRESHOLDS, curve, color=colour, label=name)
    highest = max(float(curve.max()) for curve in [everyone, *curves.values()])
    axes.set(ylim=(-0.1 * highest, 1.1 * highest), xlabel=label)
