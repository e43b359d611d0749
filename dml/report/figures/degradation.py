"""The leading metric against the level of damage, one panel a kind of damage, one line a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dml.evaluation.metrics.registry import metric_label
from dml.models.registry import label as model_label
from dml.report.figures import CLASSES, drawing

COLUMNS = 3
LINES = ("-", "--", ":", "-.")
"""Style of the first six models, of the next six, ...: there are six colours."""


def draw_degradation(content: Mapping[str, Any] | None, path: Path) -> bool:
    """Draw the curves, with the bands of teacher and student; False (and no file) without a probe.

    Parameters
    ----------
    content : mapping
        degradation.json.
    """
    kinds = {} if content is None else content["kinds"]
    if content is None or not kinds:
        return False
    models = list(dict.fromkeys(name for each in kinds.values() for name in each))
    colours = {name: CLASSES[i % len(CLASSES)] for i, name in enumerate(models)}
    lines = {name: f"o{LINES[i // len(CLASSES) % len(LINES)]}" for i, name in enumerate(models)}
    rows = -(-len(kinds) // COLUMNS)
    with drawing(path, 7.2, 2.4 * rows + 0.4) as figure:
        axes = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
        for panel, (kind, each) in zip(axes, kinds.items(), strict=False):
            for name, entry in each.items():
                points = [point for point in entry["curve"] if point.get("value") is not None]
                levels, values = ([100 * p["level"] for p in points], [p["value"] for p in points])
                panel.plot(levels, values, lines[name], color=colours[name], markersize=3, linewidth=1.2)
                if name in ("teacher", "student"):
                    low, high = ([p[end] for p in points] for end in ("ci_low", "ci_high"))
                    panel.fill_between(levels, low, high, color=colours[name], alpha=0.12, linewidth=0)
            panel.set_title(content["labels"][kind])
            panel.set_xlabel("level of damage (%)")
        for panel in axes[len(kinds) :]:
            panel.set_axis_off()
        for row in range(rows):
            axes[row * COLUMNS].set_ylabel(metric_label(content["metric"]))
        handles = [
            figure.axes[0].plot([], [], lines[name], color=colours[name], label=model_label(name))[0] for name in models
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(models), 4))
    return True
