"""Tile grids whose magnifications nest: a coarse tile covers exactly a k x k block of finer tiles.

Shape legend: r rows and c columns of the finest grid; h, w pixels of a mask.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from dml.config.params import Tiles
from dml.core.types import Mpp, TileGrid
from dml.slides.fields import Field

Selection = dict[float, NDArray[np.bool_]]
Shares = dict[float, NDArray[Any]]


@runtime_checkable
class Extent(Protocol):
    """Size and resolution of a slide."""

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height in level-0 pixels."""
        ...

    @property
    def mpp(self) -> Mpp:
        """Microns per level-0 pixel."""
        ...


@dataclass(frozen=True, slots=True)
class _Lattice:
    """The cells of the finest grid: their side and the first corner in level-0 pixels, and which may be tiles."""

    side: float
    x: float
    y: float
    allowed: Bool[np.ndarray, "r c"]

    @classmethod
    def over(cls, slide: Extent, tiles: Tiles, fields: Sequence[Field]) -> "_Lattice":
        """Lay cells over a slide from its corner, or over the box around its fields, centred in it."""
        side = min(tiles.mpps) * tiles.tile_px / slide.mpp
        if not fields:
            columns, rows = (math.ceil(length / side - 1e-6) for length in slide.dimensions)
            return cls(side, 0.0, 0.0, np.ones((rows, columns), bool))
        starts = [min(field[axis] for field in fields) for axis in (0, 1)]
        lengths = [max(field[axis] + field[axis + 2] for field in fields) - starts[axis] for axis in (0, 1)]
        columns, rows = (max(1, math.floor(length / side + 1e-6)) for length in lengths)
        x, y = (s + (n - k * side) / 2 for s, n, k in zip(starts, lengths, (columns, rows), strict=True))
        allowed = np.zeros((rows, columns), bool)
        for field in fields:
            left, top = (max(0, math.ceil((field[axis] - (x, y)[axis]) / side - 1e-6)) for axis in (0, 1))
            ends = ((field[axis] + field[axis + 2] - (x, y)[axis]) / side for axis in (0, 1))
            right, bottom = (max(0, math.floor(end + 1e-6)) for end in ends)
            allowed[top:bottom, left:right] = True
        return cls(side, x, y, allowed)


def tile_grids(
    slide: Extent, mask: Bool[np.ndarray, "h w"], tiles: Tiles, fields: Sequence[Field] = ()
) -> Mapping[Mpp, TileGrid]:
    """Nest grids over a slide and select the tiles with enough tissue.

    The finest grid starts at the slide's top-left corner. Which of its tiles share a coarse one is free: of all
    alignments the one is taken that selects most of them, in the fewest (so the fullest) coarse ones. Tiles may reach
    over the slide's edge, where they are read as white glass. A fine tile is selected if at least `min_tissue` of it is
    tissue, and then so is the coarse tile around it, whatever its share, unless `min_tissue_coarse` asks for more. A
    coarse tile's share is the mean of its finer tiles'. So every fine tile has a parent and every coarse tile a child.
    Beyond `max_tiles` at any resolution, an evenly spaced subset of the coarsest tiles remains, with all descendants.

    With fields a fine tile is selected only if it lies wholly inside one of them, and the finest grid is centred in the
    box around them, so that a field holds as many tiles as fit. Outside counts as without tissue; the coarse tile of a
    fine one at the rim of a field may reach over it.

    Parameters
    ----------
    slide : Slide
        A slide, or its size and resolution.
    mask : bool [h w]
        Tissue, over the whole slide, at any resolution.
    tiles : config.Tiles
        Resolutions, tile side, `min_tissue`, `min_tissue_coarse`, `max_tiles`.
    fields : sequence of Field
        Boxes inside of which tiles are cut; none: the whole slide.

    Returns
    -------
    mapping of mpp to TileGrid
        From the finest to the coarsest; tiles in raster order. Empty grids where there is no tissue.
    """
    mpps = sorted(tiles.mpps)
    lattice = _Lattice.over(slide, tiles, fields)
    fine = _finest_shares(slide, mask, lattice)
    before, shares, selected = _align(fine, mpps, tiles)
    selected = _limit(selected, tiles.max_tiles)
    first_um = np.array([lattice.x, lattice.y]) * slide.mpp
    start_um = first_um - np.array(before[::-1]) * (tiles.tile_px * mpps[0])
    return {Mpp(mpp): _grid(selected[mpp], shares[mpp], start_um, tiles.tile_px, Mpp(mpp), slide.mpp) for mpp in mpps}


def largest_share(slide: Extent, mask: Bool[np.ndarray, "h w"], tiles: Tiles, fields: Sequence[Field] = ()) -> float:
    """Return the largest share of tissue in a tile of the finest grid: what `min_tissue` must not exceed."""
    return float(_finest_shares(slide, mask, _Lattice.over(slide, tiles, fields)).max())


def corners_px(grid: TileGrid) -> Float[np.ndarray, "n 2"]:
    """Return the exact top-left corners in level-0 pixels, of which `coords_px` is the rounding."""
    corners: NDArray[np.float64] = (grid.coords_um - grid.tile_um / 2) / grid.slide_mpp
    return corners


def _finest_shares(slide: Extent, mask: Bool[np.ndarray, "h w"], lattice: _Lattice) -> Float[np.ndarray, "r c"]:
    """Measure the tissue share of every cell of the finest grid; 0 outside of all fields."""
    rows, columns = lattice.allowed.shape
    scale_x, scale_y = (pixels / length for pixels, length in zip(mask.shape[::-1], slide.dimensions, strict=True))
    x = (lattice.x + np.arange(columns + 1) * lattice.side) * scale_x
    y = (lattice.y + np.arange(rows + 1) * lattice.side) * scale_y
    area = _integral(_integral(mask.astype(np.float64), y).T, x).T
    tile_area = (lattice.side * scale_x) * (lattice.side * scale_y)
    shares = np.clip(np.diff(np.diff(area, axis=0), axis=1) / tile_area, 0.0, 1.0).round(6)
    return np.asarray(np.where(lattice.allowed, shares, 0.0))


def _align(
    fine: Float[np.ndarray, "r c"], mpps: list[float], tiles: Tiles
) -> tuple[tuple[int, ...], Shares, Selection]:
    """Choose which fine tiles share a coarse one: rows and columns before the first, shares, selected tiles."""
    least = dict.fromkeys(mpps, tiles.min_tissue_coarse or 0.0) | {mpps[0]: tiles.min_tissue}
    alignments = product(range(round(mpps[-1] / mpps[0])), repeat=2)
    shares = ((before, _shares(fine, before, mpps)) for before in alignments)
    grids = ((before, share, _select(share, least)) for before, share in shares)
    return max(grids, key=lambda grid: (int(grid[2][mpps[0]].sum()), -int(grid[2][mpps[-1]].sum())))


def _shares(fine: Float[np.ndarray, "r c"], before: tuple[int, ...], mpps: list[float]) -> Shares:
    """Return the shares of every grid, when the coarse ones start `before` rows and columns before the finest."""
    split = round(mpps[-1] / mpps[0])
    padding = [(start, -(start + side) % split) for start, side in zip(before, fine.shape, strict=True)]
    padded = np.pad(fine, padding)
    return {mpp: _blocks(padded, round(mpp / mpps[0])).mean(axis=(1, 3)) for mpp in mpps}


def _integral(values: Float[np.ndarray, "n m"], at: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k m"]:
    """Integrate piecewise constant rows from 0 to each position, exactly."""
    total = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    at = np.clip(at, 0, len(values))
    low = np.minimum(at.astype(int), len(values) - 1)
    return np.asarray(total[low] + (at - low)[:, None] * values[low])


def _blocks(values: NDArray[np.generic], k: int) -> NDArray[np.generic]:
    """View [k r, k c] as [r, k, c, k]."""
    rows, columns = values.shape
    return values.reshape(rows // k, k, columns // k, k)


def _select(shares: Mapping[float, NDArray[np.float64]], least: Mapping[float, float]) -> Selection:
    mpps = sorted(shares)
    selected = {mpp: (shares[mpp] >= least[mpp]) & (shares[mpp] > 0) for mpp in mpps}
    for fine, coarse in pairwise(mpps):
        selected[coarse] &= _blocks(selected[fine], round(coarse / fine)).any(axis=(1, 3))
    return _drop_orphans(selected)


def _drop_orphans(selected: Selection) -> Selection:
    """Drop fine tiles whose coarse tile is not selected."""
    mpps = sorted(selected, reverse=True)
    for coarse, fine in pairwise(mpps):
        k = round(coarse / fine)
        selected[fine] = selected[fine] & selected[coarse].repeat(k, axis=0).repeat(k, axis=1)
    return selected


def _limit(selected: Selection, most: int) -> Selection:
    coarsest = max(selected)
    order = _morton(np.argwhere(selected[coarsest]))
    wanted = min(len(order), most)
    while max(int(tiles.sum()) for tiles in selected.values()) > most and wanted > 0:
        chosen = order[np.linspace(0, len(order) - 1, wanted).round().astype(int)]
        subset = np.zeros_like(selected[coarsest])
        subset[chosen[:, 0], chosen[:, 1]] = True
        smaller = _drop_orphans({**selected, coarsest: subset})
        largest = max(int(tiles.sum()) for tiles in smaller.values())
        if largest <= most or wanted == 1:
            return smaller
        wanted = max(1, min(wanted - 1, int(wanted * most / largest)))
    return selected


def _morton(cells: Int[np.ndarray, "n 2"]) -> Int[np.ndarray, "n 2"]:
    """Sort cells along a Z-order curve, so that evenly spaced picks cover the tissue evenly."""
    codes = np.zeros(len(cells), np.int64)
    for bit in range(16):
        codes |= ((cells[:, 1] >> bit) & 1) << (2 * bit) | ((cells[:, 0] >> bit) & 1) << (2 * bit + 1)
    return cells[np.argsort(codes, kind="stable")]


def _grid(
    selected: NDArray[np.bool_], share: NDArray[np.float64], start_um: Float[np.ndarray, "2"], tile_px: int, mpp: Mpp,
    slide_mpp: Mpp,
) -> TileGrid:  # fmt: skip
    """Turn selected cells into positions on the slide; `start_um` is the grid's first corner, from the slide's."""
    cells = np.argwhere(selected)
    corners_um = cells[:, ::-1] * (tile_px * mpp) + start_um
    return TileGrid(
        coords_px=np.rint(corners_um / slide_mpp).astype(np.int64),
        coords_um=corners_um + 0.5 * tile_px * mpp,
        tissue=share[selected].astype(np.float64),
        tile_px=tile_px,
        mpp=mpp,
        slide_mpp=slide_mpp,
    )
