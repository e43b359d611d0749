"""Spots of sections on their arrays: incomplete grids, their images by symmetry, and their blocks.

Shape legend: n spots, s rows and columns of the torus, k columns of values, b resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from dml.core.errors import InputError

IMAGES = tuple((down, right, turned) for turned in (False, True) for down in (1, -1) for right in (1, -1))
"""Symmetries of a square array: steps along rows and columns, and whether these are exchanged; the identity first."""
HEXAGONAL_IMAGES = 4
"""How many of them map a hexagonal array onto itself: those that exchange nothing."""


@dataclass(frozen=True, slots=True)
class SpotGrid:
    """Row and column of each spot (n) of a section, from 0.

    For shifts the grid lies on a torus (s s) with an empty margin as large as itself: what leaves the section drops out
    instead of entering at its other edge, where it would break the map's pattern (`tests/dml/spatial/test_null.py`).

    Examples
    --------
    >>> grid = SpotGrid.of(np.array([4.0, 5.0, 4.0]), np.array([7.0, 7.0, 9.0]))
    >>> grid.extent, grid.side, grid.rows.tolist(), grid.columns.tolist()
    ((3, 2), 6, [0, 0, 2], [0, 1, 0])
    """

    rows: Int[np.ndarray, "n"]
    columns: Int[np.ndarray, "n"]

    @classmethod
    def of(cls, array_x: Float[np.ndarray, "n"], array_y: Float[np.ndarray, "n"], name: str = "spots") -> "SpotGrid":
        """Return the grid of spots at (rounded) array positions.

        Raises
        ------
        InputError
            If two spots have one position, or there is none.
        """
        columns, rows = (np.rint(np.asarray(each, float)).astype(int) for each in (array_x, array_y))
        if not len(rows):
            raise InputError(name, "no spot", "See dml cohort show")
        _, first, counts = np.unique(np.column_stack([rows, columns]), axis=0, return_index=True, return_counts=True)
        if (counts > 1).any():
            row = int(first[np.argmax(counts > 1)])
            position = f"{array_x[row]:g}, {array_y[row]:g}"
            raise InputError(name, f"two spots at array position {position}", "Give the whole-number array positions")
        return cls(rows - rows.min(), columns - columns.min())

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns of the smallest grid that holds all spots."""
        return int(self.rows.max()) + 1, int(self.columns.max()) + 1

    @property
    def side(self) -> int:
        """Rows, and columns, of the torus."""
        return 2 * max(self.extent)

    @property
    def images(self) -> int:
        """How many of `IMAGES` map the array onto itself: spots of one parity of row + column are hexagonal."""
        parity = (self.rows + self.columns) % 2
        return HEXAGONAL_IMAGES if len(self) > 1 and np.ptp(parity) == 0 else len(IMAGES)

    def scatter(self, values: Float[np.ndarray, "*k n"]) -> Float[np.ndarray, "*k s s"]:
        """Return values at spots on the torus; zero where there is no spot."""
        grid = np.zeros((*values.shape[:-1], self.side, self.side))
        grid[..., self.rows, self.columns] = values
        return grid

    def image(self, grid: Float[np.ndarray, "*k s s"], number: int) -> Float[np.ndarray, "*k s s"]:
        """Return a scattered grid mirrored or turned around the middle of the section."""
        down, right, turned = IMAGES[number]
        (height, width), result = self.extent, np.zeros_like(grid)
        part = grid[..., :height, :width][..., ::down, ::right]
        part = part.swapaxes(-1, -2) if turned else part
        result[..., : part.shape[-2], : part.shape[-1]] = part
        offset = (height - part.shape[-2]) // 2, (width - part.shape[-1]) // 2
        return np.roll(result, offset, (-2, -1))

    def overlap(self, mask: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "i s s"]:
        """Return for every image and shift how many spots of a mask meet a spot of the mask."""
        fixed = self.scatter(mask.astype(float))
        return np.stack([np.rint(cross_correlation(self.image(fixed, i), fixed)) for i in range(self.images)])


def block_weights(grids: Sequence[SpotGrid], side: int, resamples: int, seed: int) -> list[Int[np.ndarray, "b n"]]:
    """Draw how often each spot of some sections is in each resample of square blocks of `side` x `side` positions.

    The sections lie on top of one another, middle on middle, and a block is drawn in all of them, so that cuts of one
    block of tissue do not count as independent. Blocks are drawn with replacement, as many as there are; their origin
    is drawn anew for each resample. Source: Lahiri, Resampling Methods for Dependent Data, 2003, chapter 12.
    """
    sizes = [len(grid) for grid in grids]
    random = np.random.default_rng(np.random.SeedSequence([seed, side, *sizes]))
    rows = np.concatenate([grid.rows - grid.extent[0] // 2 for grid in grids])
    columns = np.concatenate([grid.columns - grid.extent[1] // 2 for grid in grids])
    weights = np.zeros((resamples, len(rows)), np.int32)
    origins = random.integers(0, side, size=(resamples, 2))
    for origin in np.unique(origins, axis=0):
        chosen = np.flatnonzero((origins == origin).all(1))
        positions = np.column_stack([(rows + origin[0]) // side, (columns + origin[1]) // side])
        _, block = np.unique(positions, axis=0, return_inverse=True)
        blocks = int(block.max()) + 1
        weights[chosen] = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=len(chosen))[:, block.ravel()]
    return np.split(weights, np.cumsum(sizes)[:-1], axis=1)


def cross_correlation(
    moved: Float[np.ndarray, "*k s s"], fixed: Float[np.ndarray, "*k s s"]
) -> Float[np.ndarray, "*k s s"]:
    """Return for every shift (row, column) of the torus the sum of products of the shifted and the fixed grid."""
    from scipy.fft import irfft2, rfft2

    correlation: np.ndarray = irfft2(np.conj(rfft2(moved)) * rfft2(fixed), s=moved.shape[-2:])
    return correlation
