"""Pictures of one section: tissue, what was measured, and the maps of a model side by side, with scale bar and scales.

Sequential scales are cividis, scales with a sign are blue to red around zero, regions have Okabe and Ito's colours: all
can be distinguished by colour-blind readers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dml.core.files import atomic
from dml.core.types import SUBSPACES
from dml.report.figures import CLASSES, INK, MUTED
from dml.slides.reader import open_slide
from dml.spatial.comparison_tables import PREDICTED, TOKENS, map_name
from dml.spatial.map_labels import label
from dml.spatial.measurements import SIGNATURE, STROMA_AND_IMMUNE
from dml.spatial.section_maps import SectionMaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIVERGING, SEQUENTIAL = "RdBu_r", "cividis"
SIDE = 700
"""Longer side of the tissue in pixels."""
QUANTILE = 0.98
"""Quantile of the values at which the colours end."""
PANEL, DPI = 2.3, 110
"""Width of a panel in inches, pixels an inch."""
MAX_PANELS = 5
"""Panels in a row of a picture."""
_BARS_UM = (50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True, slots=True)
class Panel:
    """Values (n) at the spots, their name, and whether zero is in the middle of the scale."""

    title: str
    values: np.ndarray
    signed: bool = False
    limit: float | None = None


def measured_and_predicted(section: SectionMaps, mpps: Sequence[float]) -> list[Panel]:
    """Return the panels of the main picture: signatures, prediction, contributions of both subspaces."""
    tme = STROMA_AND_IMMUNE if STROMA_AND_IMMUNE in section.measured else f"{SIGNATURE}immune"
    names = [name for name in (f"{SIGNATURE}tumor", tme) if name in section.measured]
    panels = [Panel(f"measured: {label(name)}", section.measured[name].to_numpy(float)) for name in names]
    panels.append(Panel(f"predicted: {label(PREDICTED)}", section.maps[PREDICTED].to_numpy(float)))
    contributions = [map_name(s, "contribution", mpp) for s in SUBSPACES for mpp in mpps]
    present = [name for name in contributions if name in section.maps]
    limit = max((_limit(np.abs(section.maps[name].to_numpy(float))) for name in present), default=1.0)
    return panels + [Panel(label(name), section.maps[name].to_numpy(float), True, limit) for name in present]


def attended(section: SectionMaps, mpps: Sequence[float]) -> list[Panel]:
    """Return the panels of the second picture: attention, and where aggregated tokens come from."""
    names = [map_name(s, what, mpp) for what in ("attention", TOKENS) for s in SUBSPACES for mpp in mpps]
    return [Panel(label(name), section.maps[name].to_numpy(float)) for name in names if name in section.maps]


def draw_section(section: SectionMaps, panels: Sequence[Panel], path: Path, diameter_um: float, tissue: bool) -> None:
    """Draw the tissue and regions (where `tissue`) and a panel per map of one section; PNG.

    Raises
    ------
    InputError
        If the slide cannot be opened.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    spots, total = section.spots, len(panels) + 2 * tissue
    left, right = spots["x_um"].min() - diameter_um, spots["x_um"].max() + diameter_um
    top, bottom = spots["y_um"].min() - diameter_um, spots["y_um"].max() + diameter_um
    columns = min(total, MAX_PANELS)
    rows = -(-total // columns)
    height = PANEL * (bottom - top) / (right - left) + 0.75
    with mpl.rc_context({"font.size": 7, "axes.titlesize": 7, "text.color": INK, "axes.edgecolor": MUTED}):
        layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.04)
        figure = Figure(figsize=(PANEL * columns, height * rows), layout=layout)
        axes = list(np.atleast_1d(np.asarray(figure.subplots(rows, columns))).ravel())
        for axis in axes:
            axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
        for axis in axes[total:]:
            axis.set_axis_off()
        if tissue:
            _draw_tissue(axes[0], section)
            _draw_regions(axes[1], section, diameter_um)
        for axis, panel in zip(axes[2 * tissue :], panels, strict=False):
            _draw_panel(figure, axis, spots, panel, diameter_um)
        _draw_bar(axes[0], left, right, bottom, top)
        with atomic(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def _draw_tissue(axis: "Axes", section: SectionMaps) -> None:
    axis.set_title(f"{section.section_id}: tissue")
    if section.path is None or not section.path.exists():
        axis.text(0.5, 0.5, "no image", transform=axis.transAxes, ha="center", va="center", color=MUTED)
        return
    limits = axis.get_xlim(), axis.get_ylim()
    with open_slide(section.path, section.stated_mpp) as slide:
        mpp = max(max(slide.dimensions) * slide.mpp / SIDE, slide.mpp)
        pixels = slide.thumbnail(mpp)
    height, width = pixels.shape[:2]
    axis.imshow(pixels, extent=(0.0, width * mpp, height * mpp, 0.0), interpolation="antialiased")
    axis.set(xlim=limits[0], ylim=limits[1])


def _draw_regions(axis: "Axes", section: SectionMaps, diameter_um: float) -> None:
    axis.set_title("annotated regions" if "region" in section.spots else "spots; no region is annotated")
    regions = section.spots["region"].fillna("not annotated") if "region" in section.spots else None
    if regions is None:
        _circles(axis, section.spots, diameter_um, facecolor=MUTED)
        return
    for name, colour in zip(sorted(regions.unique()), [*CLASSES, MUTED] * 3, strict=False):
        chosen = section.spots[regions == name]
        _circles(axis, chosen, diameter_um, facecolor=colour)
        axis.plot([], [], "o", color=colour, label=name, markersize=4)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), fontsize=6, ncols=2, frameon=False, handletextpad=0.2)


def _draw_panel(figure: "Figure", axis: "Axes", spots: pd.DataFrame, panel: Panel, diameter_um: float) -> None:
    present = np.isfinite(panel.values)
    axis.set_title(panel.title.replace(", ", "\n", 1).replace(": ", "\n", 1), wrap=True)
    _circles(axis, spots[~present], diameter_um, facecolor="none", edgecolor=MUTED, linewidth=0.3)
    drawn = _circles(axis, spots[present], diameter_um, cmap=DIVERGING if panel.signed else SEQUENTIAL, linewidth=0)
    if not present.any():
        return
    values = panel.values[present]
    limit = panel.limit or _limit(np.abs(values))
    low, high = (-limit, limit) if panel.signed else np.quantile(values, [1 - QUANTILE, QUANTILE])
    drawn.set_array(values)
    drawn.set_clim(float(low), float(max(high, low + 1e-9)))
    bar = figure.colorbar(drawn, ax=axis, location="bottom", shrink=0.8, aspect=25)
    bar.ax.tick_params(labelsize=6)
    bar.ax.locator_params(nbins=4)


def _circles(axis: "Axes", spots: pd.DataFrame, diameter_um: float, **style: object):  # type: ignore[no-untyped-def]
    """Add a circle a spot, of half the spacing at least so that maps can be read at small size."""
    from matplotlib.collections import EllipseCollection

    side = np.full(len(spots), diameter_um * 1.6)
    offsets = spots[["x_um", "y_um"]].to_numpy(float)
    circles = EllipseCollection(
        side, side, np.zeros(len(spots)), units="xy", offsets=offsets, transOffset=axis.transData, **style
    )
    return axis.add_collection(circles, autolim=False)


def _draw_bar(axis: "Axes", left: float, right: float, bottom: float, top: float) -> None:
    length = max((bar for bar in _BARS_UM if bar <= (right - left) / 3), default=_BARS_UM[0])
    start, height = left + 0.04 * (right - left), bottom - 0.04 * (bottom - top)
    axis.plot([start, start + length], [height, height], color="black", linewidth=2.5, solid_capstyle="butt")
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"
    axis.text(start + length / 2, height - 0.015 * (bottom - top), text, ha="center", va="bottom", color="black")


def _limit(values: np.ndarray) -> float:
    present = values[np.isfinite(values)]
    return float(np.quantile(present, QUANTILE)) or 1.0 if len(present) else 1.0
