"""Deletion and insertion curves of the orders of tiles, teacher and student side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dml.evaluation.results import PAIR
from dml.report.figures import HIGH, LOW, MUTED, drawing

COLOURS = {"contribution": LOW, "attention": HIGH, "random": MUTED}


def draw_faithfulness(faithfulness: Mapping[str, Any] | None, path: Path) -> bool:
    """Draw the curves; return False, and draw nothing, where the probe was left out.

    Parameters
    ----------
    faithfulness : mapping or None
        `faithfulness` of probes.json.
    """
    if not faithfulness or "shares" not in faithfulness:
        return False
    shares = [100 * share for share in faithfulness["shares"]]
    with drawing(path, 7.2, 3.2) as figure:
        for axes, model in zip(figure.subplots(1, len(PAIR)), PAIR, strict=True):
            for order, colour in COLOURS.items():
                curves = faithfulness[model][order]
                axes.plot(shares, curves["deletion"], "o-", color=colour, markersize=3, label=order)
                axes.plot(shares, curves["insertion"], "s--", color=colour, markersize=3)
            axes.axhline(0, color=MUTED, linewidth=0.6)
            axes.set(title=model, xlabel="tiles deleted or inserted (%)", ylabel="change of output", xticks=shares)
            axes.legend()
    return True
