"""A slide's map as GeoJSON that QuPath opens: a polygon per tile, and the outlines of regions above a threshold.

Coordinates are level-0 pixels of the slide, as QuPath wants them. Tiles are ``tile`` objects with measurements;
regions are ``annotation`` objects with a class. Source: QuPath's GeoJSON (objectType, classification, measurements).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from dml.core.files import write_json
from dml.inference.maps.slide_map import SlideMap

COLOURS: Mapping[str, tuple[int, int, int]] = {"raises": (178, 24, 43), "lowers": (33, 102, 172)}
"""Of the ends of the map's colours."""
Ring = list[tuple[int, int]]


def write_geojson(folder: Path, slide: SlideMap, mpp: float, slide_mpp: float, share: float) -> list[Path]:
    """Write ``<slide>.tiles.geojson`` and ``<slide>.regions.geojson`` of one resolution.

    Parameters
    ----------
    mpp : float
        Resolution of the tiles.
    slide_mpp : float
        Microns per level-0 pixel.
    share : float
        Share of tiles that a region is made of: those that raise the output most, and those that lower it most.
    """
    tiles, regions = (folder / f"{slide.slide_id}.{kind}.geojson" for kind in ("tiles", "regions"))
    write_json(tiles, _collection(tile_features(slide, mpp, slide_mpp)))
    write_json(regions, _collection(region_features(slide, mpp, slide_mpp, share)))
    return [tiles, regions]


def tile_features(slide: SlideMap, mpp: float, slide_mpp: float) -> list[dict[str, Any]]:
    """Return a square per tile with contribution, deviation and attention of every branch."""
    layers = {branch: slide.layer(branch, mpp) for branch in slide.branches}
    first = next(iter(layers.values()))
    names = ("contribution", "deviation", "attention")
    columns = {f"{branch} {name}": layer[name].to_numpy() for branch, layer in layers.items() for name in names}
    side = float(first["tile_um"].iloc[0]) / slide_mpp
    features = []
    for i, (x, y) in enumerate(first[["x_um", "y_um"]].to_numpy() / slide_mpp - side / 2):
        ring = [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]
        features.append(_feature([ring], "tile", None, {name: float(values[i]) for name, values in columns.items()}))
    return features


def region_features(slide: SlideMap, mpp: float, slide_mpp: float, share: float) -> list[dict[str, Any]]:
    """Return the outlines of connected tiles that raise, or lower, the output most, for every branch."""
    features = []
    for branch in slide.branches:
        layer = slide.layer(branch, mpp)
        values = layer["contribution"].to_numpy()
        count = max(1, round(share * len(values)))
        for name, chosen in (("raises", np.argsort(-values)[:count]), ("lowers", np.argsort(values)[:count])):
            signed = chosen[values[chosen] > 0] if name == "raises" else chosen[values[chosen] < 0]
            for rings, inside in _regions(layer, signed):
                side, origin = layer["tile_um"].iloc[0] / slide_mpp, _origin(layer) / slide_mpp
                outline = [[(origin[0] + x * side, origin[1] + y * side) for x, y in ring] for ring in rings]
                summed = {"contribution": float(values[inside].sum()), "tiles": float(len(inside))}
                features.append(_feature(outline, "annotation", (f"{branch} {name} {slide.output}", name), summed))
    return features


def _origin(layer: pd.DataFrame) -> np.ndarray:
    corner: np.ndarray = layer[["x_um", "y_um"]].to_numpy().min(0) - layer["tile_um"].iloc[0] / 2
    return corner


def _regions(layer: pd.DataFrame, chosen: np.ndarray) -> list[tuple[list[Ring], np.ndarray]]:
    """Outlines in units of tiles, outer ring first, and the tiles of each connected region."""
    if not len(chosen):
        return []
    centres = layer[["x_um", "y_um"]].to_numpy() - _origin(layer)
    cells = np.floor(centres / layer["tile_um"].iloc[0]).astype(int)
    grid = np.full(cells.max(0) + 1, -1)
    grid[tuple(cells[chosen].T)] = chosen
    labels, count = ndimage.label(grid >= 0)
    return [(trace_outline(labels == i), grid[labels == i]) for i in range(1, count + 1)]


def trace_outline(mask: np.ndarray) -> list[Ring]:
    """Return the closed outlines of the cells that are True [x, y], the outer one first, then holes.

    Every side of a cell that it does not share with another is one step of an outline, the region on its right.
    """
    padded = np.pad(mask, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for x, y in np.argwhere(mask).tolist():
        sides = {(0, -1): ((x, y), (x + 1, y)), (1, 0): ((x + 1, y), (x + 1, y + 1))}
        sides |= {(0, 1): ((x + 1, y + 1), (x, y + 1)), (-1, 0): ((x, y + 1), (x, y))}
        for (dx, dy), (start, end) in sides.items():
            if not padded[x + 1 + dx, y + 1 + dy]:
                steps.setdefault(start, []).append(end)
    rings = []
    while steps:
        at = min(steps)  # leftmost: on the outer outline first
        ring, before = [at], (0, 0)
        while at in steps:
            ends = steps[at]
            turn = min(ends, key=lambda end: _turn(before, (end[0] - at[0], end[1] - at[1])))
            ends.remove(turn)
            if not ends:
                del steps[at]
            before, at = (turn[0] - at[0], turn[1] - at[1]), turn
            ring.append(at)
            if at == ring[0]:
                break
        rings.append(_without_straight(ring))
    return rings


def _turn(before: tuple[int, int], step: tuple[int, int]) -> int:
    """At a corner where regions touch, turn towards the region's inside first, so that rings do not cross."""
    return -(before[0] * step[1] - before[1] * step[0])


def _without_straight(ring: Ring) -> Ring:
    corners = [
        b
        for a, b, c in zip([ring[-2], *ring[:-2]], ring[:-1], ring[1:], strict=True)
        if (b[0] - a[0]) * (c[1] - b[1]) != (b[1] - a[1]) * (c[0] - b[0])
    ]
    return [*corners, corners[0]]


def _feature(
    rings: list[list[tuple[float, float]]], kind: str, named: tuple[str, str] | None, measured: Mapping[str, float]
) -> dict[str, Any]:
    outline = [[[round(float(x), 2), round(float(y), 2)] for x, y in ring] for ring in rings]
    properties: dict[str, Any] = {"objectType": kind, "measurements": dict(measured)}
    if named is not None:
        properties["classification"] = {"name": named[0], "color": list(COLOURS[named[1]])}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": outline}, "properties": properties}


def _collection(features: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": features}
