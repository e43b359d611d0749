"""Kaplan-Meier curves of predicted low and high risk, with the number at risk and the log-rank test."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from dml.core.tasks import DAYS_PER_YEAR
from dml.evaluation.metrics.kaplan_meier import kaplan_meier, log_rank
from dml.evaluation.results import ModelResult, assign_risk_groups
from dml.models.registry import label as model_label
from dml.report.figures import HIGH, LOW, MUTED, drawing
from dml.report.number_format import p_equals

MIN_SHARE_FOLLOWED = 0.05
"""The axis ends where fewer than this share of the patients is still followed."""


def draw_kaplan_meier(model: ModelResult, path: Path) -> bool:
    """Draw one model's risk groups; False (and no file) if a group is empty or the cut-off is unknown."""
    group = assign_risk_groups(model)
    if group is None or group.nunique() < 2:
        return False
    days, event = model.rows["days"].to_numpy(float), model.rows["event"].to_numpy(bool)
    _, p = log_rank(days, event, group.to_numpy())
    end = float(np.quantile(days, 1 - MIN_SHARE_FOLLOWED)) / DAYS_PER_YEAR
    ticks = np.arange(0, end + 1e-9, max(1.0, np.ceil(end / 8)))
    with drawing(path, 4.7, 3.9) as figure:
        axes, table = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
        for value, name, colour in ((0, "low risk", LOW), (1, "high risk", HIGH)):
            inside = group.to_numpy() == value
            _curve(axes, days[inside], event[inside], f"{name} (n = {inside.sum()})", colour)
            _at_risk(table, days[inside], ticks, 1 - value, colour)
        axes.set(ylim=(0, 1.02), xlim=(0, end), ylabel="share alive")
        axes.set_title(f"{model_label(model.name)}: cut at the training median", pad=22)
        axes.text(0.02, 0.04, f"log-rank {p_equals(p)}", transform=axes.transAxes)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0)
        table.set(xlabel="years", xticks=ticks, yticks=[], ylim=(-0.6, 1.6))
        table.set_title("at risk", fontsize=8, color=MUTED)
        for side in ("left", "bottom"):
            table.spines[side].set_visible(False)
    return True


def _curve(axes: Axes, days: np.ndarray, event: np.ndarray, label: str, colour: str) -> None:
    curve = kaplan_meier(days, event)
    years = np.concatenate([[0], curve.days / DAYS_PER_YEAR])
    steps = [np.concatenate([[1], values]) for values in (curve.survival, curve.low, curve.high)]
    axes.step(years, steps[0], where="post", color=colour, label=label)
    axes.fill_between(years, steps[1], steps[2], step="post", color=colour, alpha=0.15, linewidth=0)
    censored = days[~event]
    axes.plot(censored / DAYS_PER_YEAR, curve.curve.at(censored), "|", color=colour, markersize=4, alpha=0.7)


def _at_risk(axes: Axes, days: np.ndarray, ticks: np.ndarray, row: int, colour: str) -> None:
    for tick in ticks:
        count = int((days >= tick * DAYS_PER_YEAR).sum())
        axes.text(tick, row, str(count), ha="center", va="center", color=colour, clip_on=False)
