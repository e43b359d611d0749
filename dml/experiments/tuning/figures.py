"""Figures of a study."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import optuna
from matplotlib.ticker import NullFormatter
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dml.report.figures import FAINT, HIGH, INK, LOW, MUTED, drawing

PANELS = 3
"""Figures of slices in a row."""


def history(path: Path, study: optuna.Study, complete: list[FrozenTrial], label: str) -> None:
    """Draw every trial's value and the best so far."""
    pruned = [t for t in study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)) if t.values is not None]
    better = min if study.directions[0] == StudyDirection.MINIMIZE else max
    values = [float(t.values[0]) for t in complete]
    with drawing(path, 6.0, 3.2) as figure:
        axes = figure.subplots()
        ended = [float(t.values[0]) for t in pruned]
        axes.scatter([t.number for t in pruned], ended, s=14, color=FAINT, label="pruned")
        axes.scatter([t.number for t in complete], values, s=18, color=LOW, label="complete")
        best = [better(values[: i + 1]) for i in range(len(values))]
        axes.step([t.number for t in complete], best, where="post", color=HIGH, label="best so far")
        axes.set(xlabel="trial", ylabel=f"{label}, mean over folds", title="History")
        axes.legend()


def importances(path: Path, shares: dict[str, float]) -> None:
    """Draw the share that each value explains, largest on top."""
    names = list(shares)[::-1]
    with drawing(path, 6.0, 0.8 + 0.28 * len(names)) as figure:
        axes = figure.subplots()
        axes.barh(names, [shares[name] for name in names], color=LOW)
        axes.set(xlabel="share of the spread explained (PED-ANOVA)", title="Importances")


def slices(path: Path, complete: list[FrozenTrial], label: str) -> None:
    """Draw the objective along each tuned value."""
    names = sorted({name for trial in complete for name in trial.params})
    rows = math.ceil(len(names) / PANELS)
    with drawing(path, 2.6 * PANELS, 2.2 * rows) as figure:
        panels = figure.subplots(rows, PANELS, sharey=True, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            having = [trial for trial in complete if name in trial.params]
            domain: Any = having[0].distributions[name]
            found = [trial.params[name] for trial in having]
            if isinstance(domain, optuna.distributions.CategoricalDistribution):
                axes.scatter([domain.choices.index(v) for v in found], [t.values[0] for t in having], s=14, color=INK)
                axes.set_xticks(range(len(domain.choices)), map(str, domain.choices))
            else:
                axes.scatter(found, [t.values[0] for t in having], s=14, color=INK)
                axes.set_xscale("log" if domain.log else "linear")
                axes.set_xlim(domain.low, domain.high)
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_title(name, color=MUTED)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        figure.supylabel(label)


def costs(path: Path, complete: list[FrozenTrial], front: Collection[int], label: str) -> None:
    """Draw quality against inference cost; those that no other beats in both are joined."""
    best = sorted((trial for trial in complete if trial.number in front), key=lambda trial: trial.values[1])
    with drawing(path, 6.0, 3.6) as figure:
        axes = figure.subplots()
        axes.scatter([t.values[1] for t in complete], [t.values[0] for t in complete], s=14, color=FAINT)
        axes.plot([t.values[1] for t in best], [t.values[0] for t in best], color=HIGH, marker="o", markersize=4)
        for trial in best:
            where = (trial.values[1], trial.values[0])
            axes.annotate(str(trial.number), where, xytext=(4, 4), textcoords="offset points")
        axes.set(xlabel="GFLOP a patient, all members", ylabel=f"{label}, mean over folds", title="Quality and cost")
