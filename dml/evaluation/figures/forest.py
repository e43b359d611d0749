"""All models' leading metric with intervals, one row a model, the folds as dots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dml.evaluation.figures import FAINT, INK, LOW, MUTED, drawing
from dml.evaluation.tables import title


def draw_forest(metrics: Mapping[str, Mapping[str, Any]], metric: str, path: Path, chance: float | None = 0.5) -> bool:
    """Draw a metric of all models that have it; False (and no file) if none has."""
    entries = {model: own[metric] for model, own in metrics.items() if metric in own}
    if not entries:
        return False
    with drawing(path, 6.4, 0.8 + 0.32 * len(entries)) as figure:
        axes = figure.subplots()
        for row, (model, entry) in enumerate(entries.items()):
            colour = MUTED if model.startswith("baseline_") else LOW
            folds = [value for value in entry["folds"] if value is not None]
            axes.plot(folds, np.full(len(folds), row), "o", color=FAINT, markersize=4, zorder=1)
            axes.plot([entry["ci_low"], entry["ci_high"]], [row, row], color=colour, linewidth=2, zorder=2)
            axes.plot(entry["value"], row, "s", color=colour, markersize=6, zorder=3)
            text = f"{entry['value']:.3f}"
            axes.annotate(text, (1.01, row), xycoords=("axes fraction", "data"), va="center", color=INK)
        if chance is not None:
            axes.axvline(chance, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(entries)), list(entries))
        axes.set_ylim(len(entries) - 0.4, -0.6)
        axes.set_xlabel(f"{title(metric)}: value, bootstrap interval, single folds")
    return True
