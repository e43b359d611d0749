"""Layers of a slide's map: a value per tile, its unit, and the colours of a scale that colour-blind readers can tell.

Contributions have a sign and share one symmetric scale, so that subspaces can be compared; attention and deviation
begin at zero. The ends of a scale are the quantile `CLIP`; values beyond have the colour of the end.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from dml.attribution.attribute import LINEAR
from dml.inference.maps.overlay import CLIP
from dml.inference.maps.slide_map import TOTAL, SlideMap

Quantity = Literal["contribution", "difference", "attention", "deviation", "measured"]
SCALES: dict[Quantity, str] = {
    "contribution": "PuOr_r",
    "difference": "PuOr_r",
    "attention": "viridis",
    "deviation": "cividis",
    "measured": "inferno",
}
"""Colour maps of matplotlib: orange raises the output, purple lowers it."""
LABELS = {"tumor": "Tumor", "tme": "Microenvironment", LINEAR: "Linear offset", TOTAL: "Sum"}
PAIR = ("tumor", "tme")
COLOURS = 256


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its id in addresses (``contribution-tumor``), its name for people, and what it shows."""

    id: str
    label: str
    quantity: Quantity
    branch: str
    unit: str


def list_layers(slide: SlideMap) -> list[Layer]:
    """Return the layers of a map, the sum first."""
    branches = sorted(slide.branches, key=lambda branch: branch != TOTAL)
    attended = [branch for branch in branches if branch != LINEAR]
    layers = [_layer("contribution", branch, _label(branch), slide.unit) for branch in branches]
    if set(PAIR) <= set(branches):
        layers.append(_layer("difference", "tumor-tme", "Tumor less microenvironment", slide.unit))
    for branch in attended:
        name = "mean of branches" if branch == TOTAL else _label(branch).lower()
        layers.append(_layer("attention", branch, f"Attention, {name}", "times an equal share"))
    for branch in attended:
        layers.append(_layer("deviation", branch, f"Deviation between members, {_label(branch).lower()}", slide.unit))
    return layers


def _label(branch: str) -> str:
    return LABELS.get(branch, branch.capitalize())


def _layer(quantity: Quantity, branch: str, label: str, unit: str) -> Layer:
    return Layer(f"{quantity}-{branch}", label, quantity, branch, unit)


def layer_values(slide: SlideMap, layer: Layer, mpp: float) -> np.ndarray:
    """Return a value per tile of one resolution, in the layer's unit."""
    if layer.quantity == "difference":
        first, second = (slide.layer(branch, mpp)["contribution"].to_numpy(float) for branch in PAIR)
        return np.asarray(first - second)
    values = slide.layer(layer.branch, mpp)[layer.quantity].to_numpy(float)
    return np.asarray(values / max(values.mean(), 1e-12) if layer.quantity == "attention" else values)


def layer_range(slide: SlideMap, layer: Layer, mpp: float) -> tuple[float, float]:
    """Return the values at the two ends of a layer's colours."""
    if layer.quantity in ("contribution", "difference"):
        limit = max(_end(layer_values(slide, each, mpp)) for each in list_layers(slide) if _has_sign(each))
        return -limit, limit
    return 0.0, _end(layer_values(slide, layer, mpp))


def _has_sign(layer: Layer) -> bool:
    return layer.quantity in ("contribution", "difference")


def _end(values: np.ndarray) -> float:
    return (float(np.quantile(np.abs(values), CLIP)) if len(values) else 0.0) or 1.0


@cache
def colour_table(scale: str) -> list[str]:
    """Return the colours of a scale as hexadecimal RGB, from its low to its high end.

    Examples
    --------
    >>> colour_table("viridis")[0], len(colour_table("viridis"))
    ('#440154', 256)
    """
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in mpl.colormaps[scale](np.arange(COLOURS))]
