"""Ablation study: differences of the variants to the full model of their kind, with intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dml.evaluation.metrics.registry import metric_label
from dml.report.figures import HIGH, INK, LOW, MUTED, drawing

COLOURS = {"teacher": LOW, "student": HIGH}


def draw_ablation(rows: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draw one row a changed model, teachers above students; False (and no file) if nothing was compared.

    Parameters
    ----------
    rows : sequence of mapping
        `rows` of ablation.json; those of subgroups are left out.
    """
    compared = [row for row in rows if "p" in row and not row["subgroup"]]
    if not compared:
        return False
    with drawing(path, 6.8, 1.0 + 0.3 * len(compared)) as figure:
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=":")
        for at, row in enumerate(compared):
            colour = COLOURS[row["kind"]]
            axes.plot([row["difference_low"], row["difference_high"]], [at, at], color=colour, linewidth=2)
            first = row["kind"] not in {earlier["kind"] for earlier in compared[:at]}
            axes.plot(row["difference"], at, "s", color=colour, markersize=6, label=row["kind"] if first else None)
            text = f"{row['difference']:+.3f}"
            axes.annotate(text, (1.01, at), xycoords=("axes fraction", "data"), va="center", color=INK)
        axes.set_yticks(range(len(compared)), [row["variant"] for row in compared])
        axes.set_ylim(len(compared) - 0.4, -0.6)
        axes.set_xlabel(
            f"difference in {metric_label(compared[0]['metric'])} to the full model; left: the component helps"
        )
        figure.legend(loc="outside upper center", ncols=2)
    return True
