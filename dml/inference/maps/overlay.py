"""Pictures of a slide's map: the tissue, and the contributions of each branch over it, with scale bar and units."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dml.core.files import atomic
from dml.core.types import SUBSPACES
from dml.inference.maps.slide_map import SlideMap
from dml.slides.reader import open_slide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIVERGING, SEQUENTIAL = "RdBu_r", "cividis"
"""Colour maps that colour-blind readers can tell apart; red raises the output, blue lowers it."""
OPACITY = 0.6
SIDE = 900
"""Longer side of the tissue in pixels of the picture."""
CLIP = 0.99
"""Quantile of the absolute contributions at which the colours end."""
NAMES = {"tme": "microenvironment"}
"""Titles of branches that are called otherwise."""
_BARS_UM = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)


def save_overlay(slide: SlideMap, mpp: float, path: Path, subspaces_only: bool = False) -> None:
    """Draw tissue, each branch's contributions, their difference and attention at one resolution; PNG or PDF.

    Parameters
    ----------
    path : Path
        Ends with .png or .pdf; written atomically.
    subspaces_only : bool
        Draw only tissue, tumor and microenvironment (of a model without subspaces, its branches).

    Raises
    ------
    InputError
        If the slide cannot be opened.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with open_slide(slide.path, slide.stated_mpp) as opened:
        thumbnail_mpp = max(max(opened.dimensions) * opened.mpp / SIDE, opened.mpp)
        tissue = opened.thumbnail(thumbnail_mpp)
    panels = _panels(slide, mpp)
    if subspaces_only:
        wanted = [branch for branch in SUBSPACES if branch in slide.branches] or slide.branches[:2]
        panels = [panel for panel in panels if panel[0] in {NAMES.get(branch, branch) for branch in wanted}]
    limit = max(float(np.quantile(np.abs(v), CLIP)) for _, v, diverging in panels if diverging) or 1.0
    with mpl.rc_context({"font.size": 8}):
        columns = 1 + len(panels)
        figure = Figure(figsize=(3.0 * columns, 3.4 * tissue.shape[0] / tissue.shape[1] + 0.9), layout="constrained")
        axes = np.atleast_1d(np.asarray(figure.subplots(1, columns)))
        _draw_tissue(axes[0], tissue, thumbnail_mpp, f"{slide.slide_id}, tissue")
        _keep_level(figure, axes[0])
        for axis, (title, values, diverging) in zip(axes[1:], panels, strict=True):
            _draw_tissue(axis, tissue, thumbnail_mpp, title)
            layer = slide.layer(slide.branches[0], mpp)
            _draw_layer(figure, axis, layer, values, (limit if diverging else None, _label(slide, diverging)))
        figure.suptitle(
            f"{slide.model}: contribution to {slide.output}, tiles at {mpp:g} microns per pixel", fontsize=9
        )
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {}
        with atomic(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=200, metadata=metadata)


def _panels(slide: SlideMap, mpp: float) -> list[tuple[str, np.ndarray, bool]]:
    """Title, a value per tile, and whether it has a sign."""
    layers = {branch: slide.layer(branch, mpp) for branch in slide.branches}
    panels = [(NAMES.get(branch, branch), layer["contribution"].to_numpy(), True) for branch, layer in layers.items()]
    if {"tumor", "tme"} <= layers.keys():
        difference = layers["tumor"]["contribution"] - layers["tme"]["contribution"]
        panels.append(("tumor less microenvironment", difference.to_numpy(), True))
    relative = layers["total"]["attention"].to_numpy()
    return [*panels, ("attention", relative / max(float(relative.mean()), 1e-12), False)]


def _label(slide: SlideMap, diverging: bool) -> str:
    return f"contribution ({slide.unit})" if diverging else "attention, 1 = an equal share"


def _draw_tissue(axis: "Axes", tissue: np.ndarray, mpp: float, title: str) -> None:
    height, width = tissue.shape[:2]
    extent = (0.0, width * mpp, height * mpp, 0.0)  # microns
    axis.imshow(tissue, extent=extent, interpolation="antialiased")
    axis.set(title=title, xticks=[], yticks=[])
    length = max((bar for bar in _BARS_UM if bar <= width * mpp / 4), default=_BARS_UM[0])
    left, bottom = 0.04 * width * mpp, 0.95 * height * mpp
    axis.plot([left, left + length], [bottom, bottom], color="black", linewidth=2.5, solid_capstyle="butt")
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"
    axis.text(left + length / 2, bottom - 0.012 * height * mpp, text, ha="center", va="bottom")


def _keep_level(figure: "Figure", axis: "Axes") -> None:
    """Leave the room of a colour bar below a panel that has none, so that it is level with those beside it."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    unseen = ScalarMappable(cmap=ListedColormap(["white"]))
    bar = figure.colorbar(unseen, ax=axis, location="bottom", shrink=0.85, ticks=[0, 1])
    bar.set_label("none", color="none")
    bar.ax.tick_params(colors="none")
    bar.outline.set_visible(False)


def _draw_layer(
    figure: "Figure", axis: "Axes", layer: pd.DataFrame, values: np.ndarray, scale: tuple[float | None, str]
) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    limit, label = scale
    side = float(layer["tile_um"].iloc[0])
    squares = [Rectangle((x - side / 2, y - side / 2), side, side) for x, y in layer[["x_um", "y_um"]].to_numpy()]
    drawn = PatchCollection(squares, cmap=SEQUENTIAL if limit is None else DIVERGING, alpha=OPACITY, linewidth=0)
    drawn.set_array(values)
    low, high = (0.0, float(np.quantile(values, CLIP)) or 1.0) if limit is None else (-limit, limit)
    drawn.set_clim(low, high)
    axis.add_collection(drawn)
    ticks = [low, (low + high) / 2, high]
    figure.colorbar(drawn, ax=axis, label=label, location="bottom", shrink=0.85, ticks=ticks, format="%.2g")
