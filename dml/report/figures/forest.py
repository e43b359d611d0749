"""All models' leading metric with intervals, one row a model, the folds as dots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dml.evaluation.metrics.registry import metric_label
from dml.evaluation.results import reads_clinical
from dml.models.registry import is_baseline
from dml.models.registry import label as model_label
from dml.report.figures import CLASSES, FAINT, INK, LOW, MUTED, drawing


def draw_forest(metrics: Mapping[str, Mapping[str, Any]], metric: str, path: Path, chance: float | None = 0.5) -> bool:
    """Draw a metric of all models that have it; False (and no file) if none has."""
    entries = {model: values[metric] for model, values in metrics.items() if metric in values}
    if not entries:
        return False
    with drawing(path, 6.4, 0.8 + 0.32 * len(entries)) as figure:
        axes = figure.subplots()
        for row, (model, entry) in enumerate(entries.items()):
            colour = MUTED if is_baseline(model) else LOW
            folds = [value for value in entry["folds"] if value is not None and len(entry["folds"]) > 1]
            axes.plot(folds, np.full(len(folds), row), "o", color=FAINT, markersize=4, zorder=1)
            axes.plot([entry["ci_low"], entry["ci_high"]], [row, row], color=colour, linewidth=2, zorder=2)
            axes.plot(entry["value"], row, "s", color=colour, markersize=6, zorder=3)
            text = f"{entry['value']:.3f}"
            axes.annotate(text, (1.01, row), xycoords=("axes fraction", "data"), va="center", color=INK)
        if chance is not None:
            axes.axvline(chance, color=MUTED, linewidth=0.8, linestyle=":")
        without = sum(not reads_clinical(model) for model in entries)
        if 0 < without < len(entries):
            axes.axhline(without - 0.5, color=FAINT, linewidth=0.8)
        axes.set_yticks(range(len(entries)), [model_label(model) for model in entries])
        axes.set_ylim(len(entries) - 0.4, -0.6)
        several = any(len(entry["folds"]) > 1 for entry in entries.values())
        axes.set_xlabel(f"{metric_label(metric)}: value, bootstrap interval{', single folds' if several else ''}")
    return True


def draw_subgroups(groups: Sequence[Mapping[str, Any]], metric: str, path: Path, chance: float = 0.5) -> bool:
    """Draw the metric of some models inside each group of patients, one row a group; False (no file) without groups."""
    models = list(dict.fromkeys(name for group in groups for name in group["models"]))
    if not groups or not models:
        return False
    with drawing(path, 6.8, 1.0 + (0.14 + 0.16 * len(models)) * len(groups)) as figure:
        axes, labelled = figure.subplots(), set[str]()
        for k, (name, colour) in enumerate(zip(models, CLASSES, strict=False)):
            shift = (k - (len(models) - 1) / 2) * 0.22
            for row, entry in enumerate(group["models"].get(name) for group in groups):
                if entry is not None:
                    axes.plot([entry["ci_low"], entry["ci_high"]], [row + shift] * 2, color=colour, linewidth=1.6)
                    label = model_label(name) if name not in labelled else None
                    labelled.add(name)
                    axes.plot(entry["value"], row + shift, "s", color=colour, markersize=4, label=label)
        axes.axvline(chance, color=MUTED, linewidth=0.8, linestyle=":")
        names = [f"{g['column']}: {g['value']} (n = {g['patients']})" for g in groups]
        axes.set_yticks(range(len(groups)), names)
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.set_xlabel(metric_label(metric))
        figure.legend(loc="outside upper center", ncols=len(models))
    return True
