"""Decision curves of several models against treating everyone and no one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dml.evaluation.figures import CLASSES, FAINT, MUTED, drawing
from dml.evaluation.metrics.decision import net_benefit, net_benefit_survival
from dml.evaluation.results import ModelResult
from dml.predictions import class_column, horizon_days, survival_column

THRESHOLDS = np.linspace(0.05, 0.8, 76)


def draw_survival_decision(models: Sequence[ModelResult], year: float, path: Path) -> None:
    """Draw the net benefit of acting on the predicted probability to die within some years."""
    curves = {}
    for model in models:
        truth = model.rows["days"].to_numpy(float), model.rows["event"].to_numpy(bool), float(horizon_days(year))
        death = 1 - model.rows[survival_column(year)].to_numpy(float)
        curves[model.name] = net_benefit_survival(death, *truth, THRESHOLDS)
        everyone = net_benefit_survival(np.ones(len(death)), *truth, THRESHOLDS)
    _draw(curves, everyone, f"act above this probability to die within {year:g} y", path)


def draw_class_decision(models: Sequence[ModelResult], positive: str, path: Path) -> None:
    """Draw the net benefit of acting on the predicted probability of a class."""
    curves = {}
    for model in models:
        truth = (model.rows["label"] == positive).to_numpy()
        curves[model.name] = net_benefit(model.rows[class_column(positive)].to_numpy(float), truth, THRESHOLDS)
        everyone = net_benefit(np.ones(len(truth)), truth, THRESHOLDS)
    _draw(curves, everyone, f"act above this probability of {positive}", path)


def _draw(curves: Mapping[str, np.ndarray], everyone: np.ndarray, label: str, path: Path) -> None:
    with drawing(path, 5.2, 3.2) as figure:
        axes = figure.subplots()
        axes.axhline(0, color=MUTED, linewidth=1, label="no one")
        axes.plot(THRESHOLDS, everyone, color=FAINT, label="everyone")
        for (name, curve), colour in zip(curves.items(), CLASSES, strict=False):
            axes.plot(THRESHOLDS, curve, color=colour, label=name)
        highest = max(float(curve.max()) for curve in [everyone, *curves.values()])
        axes.set(ylim=(-0.1 * highest, 1.1 * highest), xlabel=label, ylabel="net benefit")
        axes.legend()
