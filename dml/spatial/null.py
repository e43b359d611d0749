"""The null distribution of a rank correlation of two maps of one section that keeps the autocorrelation of both.

One map is moved against the other on the torus of the spot grid (shifted, mirrored, turned), so that each keeps its own
pattern and only their relation is lost. The grid is incomplete and has an empty margin: a moved value that meets no
spot drops out, so a move counts only if enough spots meet spots, and the correlation of n' of n spots is multiplied by
sqrt(n' / n), because its variance is that much larger. Sources: Lotwick and Silverman, J R Stat Soc B 1982 (toroidal
shift); Mrkvicka et al., Spat Stat 2021, doi 10.1016/j.spasta.2020.100430 (variance correction).

    r'(move) = sqrt(n' / n) corr(rank x(move), rank y)    over the n' spots where both are

Every move is computed at once by cross-correlation: six Fourier transforms of the grid for a pair of maps.

Shape legend: n spots, k measured values, s side of the torus, d draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from dml.core.errors import InputError
from dml.spatial.spot_grid import SpotGrid, cross_correlation

MIN_OVERLAP = 0.45
"""Least share of the spots that must meet a spot after a move, mean over sections."""
MIN_PAIR_OVERLAP = 0.25
"""The same share of one section, and of the spots where a pair of maps has values; below it the move is missing."""
MIN_MOVES = 19
"""Least moves of a section: with fewer no p-value of a single section can reach 0.05."""


@dataclass(frozen=True, slots=True)
class Moves:
    """Drawn moves: the number of the image, and the shift along rows and columns (each d).

    `available` is the number of moves to draw from, without the identity.
    """

    image: Int[np.ndarray, "d"]
    row: Int[np.ndarray, "d"]
    column: Int[np.ndarray, "d"]
    available: int

    def __len__(self) -> int:
        return len(self.image)


def draw_moves(grids: Sequence[SpotGrid], draws: int, seed: int, min_overlap: float = MIN_OVERLAP) -> Moves:
    """Draw moves that all sections of one patient make at once, each at most once where there are enough of them.

    Sections of one patient may be cuts of one block, whose patterns repeat: moved each by itself, their chance
    associations would average out, which those of the real sections do not. The identity is never drawn.

    Raises
    ------
    InputError
        If too few moves leave enough spots on spots.
    """
    reach, images = max(grid.side for grid in grids) // 2, min(grid.images for grid in grids)
    shares = np.stack([_shares(grid, images, reach) for grid in grids])
    allowed = (shares.mean(0) >= min_overlap) & (shares.min(0) >= MIN_PAIR_OVERLAP)
    allowed[0, reach, reach] = False
    moves = np.argwhere(allowed) - [0, reach, reach]
    spots = sum(map(len, grids))
    if len(moves) < MIN_MOVES:
        problem = f"{len(moves)} moves leave {min_overlap:.0%} of {spots} spots on spots, {MIN_MOVES} are needed"
        raise InputError("spots", problem, "A section needs more spots for spatial validation")
    random = np.random.default_rng(np.random.SeedSequence([seed, spots]))
    chosen = moves[random.choice(len(moves), size=draws, replace=len(moves) < draws)]
    return Moves(chosen[:, 0], chosen[:, 1], chosen[:, 2], len(moves))


def _shares(grid: SpotGrid, images: int, reach: int) -> Float[np.ndarray, "i _ _"]:
    """Share of a section's spots on spots for every image and every shift by up to `reach` to either side."""
    half = grid.side // 2
    centred = np.roll(grid.overlap(np.ones(len(grid), bool))[:images], (half, half), (1, 2)) / len(grid)
    shares = np.zeros((images, 2 * reach + 1, 2 * reach + 1))
    start = reach - half
    shares[:, start : start + grid.side, start : start + grid.side] = centred
    return shares


def null_correlations(
    grid: SpotGrid, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "k n"], moves: Moves
) -> Float[np.ndarray, "k d"]:
    """Return the rank correlation of a map with each measured value under each move of the map.

    Parameters
    ----------
    x, y : arrays
        NaN where missing; ranks are of the spots where both are. A binary `y` gives what an AUC is a multiple of.

    Returns
    -------
    array, k d
        NaN where too few spots meet, or one of the two is constant on them.
    """
    both = np.isfinite(x) & np.isfinite(y)
    n = both.sum(1)
    rank_x, rank_y = (_centred_ranks(np.broadcast_to(values, y.shape), both) for values in (x, y))
    moved = grid.scatter(np.stack([both.astype(float), rank_x, rank_x**2]))
    fixed = grid.scatter(np.stack([both.astype(float), rank_y, rank_y**2]))
    images = range(int(moves.image.max(initial=0)) + 1)
    correlations = np.stack([_correlate(grid.image(moved, i), fixed, n) for i in images], axis=1)
    selected: np.ndarray = correlations[:, moves.image, moves.row % grid.side, moves.column % grid.side]
    return selected


def _centred_ranks(values: Float[np.ndarray, "k n"], present: Bool[np.ndarray, "k n"]) -> Float[np.ndarray, "k n"]:
    """Return ranks among the present values, scaled to a range of one and centred; zero where missing."""
    ranks = np.zeros(values.shape)
    for row, value, mask in zip(ranks, values, present, strict=True):
        count = int(mask.sum())
        row[mask] = (rankdata(value[mask]) - (count + 1) / 2) / max(count, 1)
    return ranks


def _correlate(
    moved: Float[np.ndarray, "3 k s s"], fixed: Float[np.ndarray, "3 k s s"], n: Int[np.ndarray, "k"]
) -> Float[np.ndarray, "k s s"]:
    count = np.rint(cross_correlation(moved[0], fixed[0]))
    enough = count >= np.maximum(MIN_PAIR_OVERLAP * n[:, None, None], 3)
    safe = np.where(enough, count, 1.0)
    sum_x, sum_xx = (cross_correlation(part, fixed[0]) / safe for part in moved[1:])
    sum_y, sum_yy = (cross_correlation(moved[0], part) / safe for part in fixed[1:])
    covariance = cross_correlation(moved[1], fixed[1]) / safe - sum_x * sum_y
    variance_x, variance_y = sum_xx - sum_x**2, sum_yy - sum_y**2
    defined = enough & (variance_x > 1e-9) & (variance_y > 1e-9)
    scale = np.sqrt(np.where(defined, variance_x * variance_y, 1.0))
    corrected = np.clip(covariance / scale, -1, 1) * np.sqrt(count / np.maximum(n, 1)[:, None, None])
    result: np.ndarray = np.where(defined, corrected, np.nan)
    return result
