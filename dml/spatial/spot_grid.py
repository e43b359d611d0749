"""Spots of one section on their array: an incomplete grid on a torus, and its blocks.

Shape legend: n spots, h rows and w columns of the bounding grid, k columns of values, b resamples.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from dml.core.errors import InputError

MIRRORS = ((1, 1), (-1, 1), (1, -1), (-1, -1))
"""Steps along rows and columns of the identity, both mirror images, and the rotation by half a turn.

All four map a square and a hexagonal array onto themselves; a quarter turn does so only on a square one.
"""


@dataclass(frozen=True, slots=True)
class SpotGrid:
    """Row and column of each spot (n) on a torus (h, w): the smallest grid that holds all of them, and an empty margin.

    With a margin as large as the grid, a shift never brings opposite edges of the section next to each other: what
    leaves the section drops out. Without a margin it enters at the other edge, which breaks the map's pattern there and
    makes the null too narrow for maps that are smooth over half the section (`tests/dml/spatial/test_null.py`).

    Examples
    --------
    >>> grid = SpotGrid.of(np.array([4.0, 5.0, 4.0]), np.array([7.0, 7.0, 9.0]), margin=0)
    >>> grid.shape, grid.rows.tolist(), grid.columns.tolist()
    ((3, 2), [0, 0, 2], [0, 1, 0])
    """

    rows: Int[np.ndarray, "n"]
    columns: Int[np.ndarray, "n"]
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, array_x: Float[np.ndarray, "n"], array_y: Float[np.ndarray, "n"], margin: float = 1.0, name: str = "spots"
    ) -> "SpotGrid":
        """Return the grid of spots at (rounded) array positions, with a margin in multiples of its sides.

        Raises
        ------
        InputError
            If two spots have one position, or there is none.
        """
        columns, rows = (np.rint(np.asarray(each, float)).astype(int) for each in (array_x, array_y))
        if not len(rows):
            raise InputError(name, "no spot", "See dml cohort show")
        rows, columns = rows - rows.min(), columns - columns.min()
        shape = (math.ceil((rows.max() + 1) * (1 + margin)), math.ceil((columns.max() + 1) * (1 + margin)))
        _, first, counts = np.unique(rows * shape[1] + columns, return_index=True, return_counts=True)
        if (counts > 1).any():
            row = int(first[np.argmax(counts > 1)])
            position = f"{array_x[row]:g}, {array_y[row]:g}"
            raise InputError(name, f"two spots at array position {position}", "Give the whole-number array positions")
        return cls(rows, columns, shape)

    def __len__(self) -> int:
        return len(self.rows)

    def scatter(self, values: Float[np.ndarray, "*k n"]) -> Float[np.ndarray, "*k h w"]:
        """Return values at spots as grids; zero where there is no spot."""
        grid = np.zeros((*values.shape[:-1], *self.shape))
        grid[..., self.rows, self.columns] = values
        return grid

    def overlap(self, mask: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "4 h w"]:
        """Return for every mirror image and shift how many spots of a mask meet a spot of the mask."""
        target = self.scatter(mask.astype(float))
        return np.stack([np.rint(cross_correlation(mirror(target, steps), target)) for steps in MIRRORS])

    def block_weights(self, side: int, resamples: int, seed: int) -> Int[np.ndarray, "b n"]:
        """Draw how often each spot is in each resample of square blocks of `side` x `side` grid positions.

        Blocks are drawn with replacement, as many as there are; the origin of the blocks is drawn anew for each
        resample. Source: Lahiri, Resampling Methods for Dependent Data, 2003, chapter 12.
        """
        random = np.random.default_rng(np.random.SeedSequence([seed, side, len(self)]))
        weights = np.zeros((resamples, len(self)), np.int32)
        origins = random.integers(0, side, size=(resamples, 2))
        for origin in np.unique(origins, axis=0):
            chosen = np.flatnonzero((origins == origin).all(1))
            block = (self.rows + origin[0]) // side * (self.shape[1] // side + 2) + (self.columns + origin[1]) // side
            _, member = np.unique(block, return_inverse=True)
            blocks = int(member.max()) + 1
            weights[chosen] = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=len(chosen))[:, member]
        return weights


def mirror(grid: Float[np.ndarray, "*k h w"], steps: tuple[int, int]) -> Float[np.ndarray, "*k h w"]:
    """Return a grid read in steps of 1 or -1 along rows and columns."""
    mirrored: np.ndarray = grid[..., :: steps[0], :: steps[1]]
    return mirrored


def cross_correlation(
    moved: Float[np.ndarray, "*k h w"], fixed: Float[np.ndarray, "*k h w"]
) -> Float[np.ndarray, "*k h w"]:
    """Return for every shift (row, column) of the torus the sum of products of the shifted and the fixed grid."""
    from scipy.fft import irfft2, rfft2

    shape = moved.shape[-2:]
    correlation: np.ndarray = irfft2(np.conj(rfft2(moved)) * rfft2(fixed), s=shape)
    return correlation
