"""Figures of a report: pure functions of predictions and metrics, written as SVG with no date and no random ids."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from dml.core.files import atomic

INK, MUTED, FAINT = "#1b2733", "#5c6b7a", "#c9d1d9"
LOW, HIGH = "#0072b2", "#d55e00"
CLASSES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours: distinguishable for colour-blind readers."""

STYLE: Any = {
    "svg.hashsalt": "dml",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Yield a figure of some inches; written to `path` (SVG) on leaving. Equal content is equal bytes."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with atomic(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
