"""The teacher's leading metric against the share of test patients whose transcriptome is hidden."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dml.evaluation.metrics.registry import metric_label
from dml.report.figures import HIGH, LOW, drawing


def draw_missing_modality(curve: Mapping[str, Any], metric: str, path: Path) -> None:
    """Draw the curve with its interval, and the student, who never has a transcriptome, as a line.

    Parameters
    ----------
    curve : mapping
        `missing_modality` of probes.json.
    """
    points = [point for point in curve["teacher"] if point.get("value") is not None]
    shares = [100 * point["share"] for point in points]
    with drawing(path, 4.8, 3.2) as figure:
        axes = figure.subplots()
        low, high, value = ([point[name] for point in points] for name in ("ci_low", "ci_high", "value"))
        axes.fill_between(shares, low, high, color=LOW, alpha=0.15, linewidth=0)
        axes.plot(shares, value, "o-", color=LOW, markersize=4, label="teacher")
        if curve["student"]:
            axes.axhline(curve["student"]["value"], color=HIGH, linestyle="--", linewidth=1.2, label="student")
        axes.set(xlabel="test patients without transcriptome (%)", ylabel=metric_label(metric), xticks=shares)
        axes.legend()
