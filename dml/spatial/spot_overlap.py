"""Values of tiles at spots: the mean over the tiles that a spot lies on, weighted by the area they share.

The area of a disc left of x and below y has a closed form (radius 1, a corner inside the disc):

    F(x, y) = x y + (x sqrt(1 - x^2) + asin x + y sqrt(1 - y^2) + asin y) / 2 + pi / 4

and of a rectangle F(x1, y1) - F(x0, y1) - F(x1, y0) + F(x0, y0). A Gaussian kernel whose full width at half maximum is
the spot's diameter is the alternative.

Shape legend: s spots, t tiles, k columns of values.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

Kernel = Literal["disc", "gaussian"]
MIN_COVERAGE = 0.25
"""Least share of a spot's weight that tiles must cover; below it the value is missing."""
SIGMAS = 3.0
"""Reach of the Gaussian kernel in standard deviations."""


@dataclass(frozen=True, slots=True)
class SpotOverlap:
    """Weights of tiles at spots (s t, sparse), and the share of each spot that tiles cover (s)."""

    weights: csr_array
    coverage: Float[np.ndarray, "s"]

    def resample(self, values: Float[np.ndarray, "t *k"]) -> Float[np.ndarray, "s *k"]:
        """Return the weighted mean of the tiles at each spot; NaN where tiles cover too little of it."""
        total = self.weights.sum(axis=1)
        covered = (self.coverage >= MIN_COVERAGE) & (total > 0)
        sums = self.weights @ np.asarray(values, float)
        shape = (-1,) + (1,) * (sums.ndim - 1)
        mean: np.ndarray = np.where(covered.reshape(shape), sums / np.where(covered, total, 1).reshape(shape), np.nan)
        return mean

    def tiles_of(self, spot: int) -> np.ndarray:
        """Return the numbers of the tiles that a spot lies on."""
        tiles: np.ndarray = self.weights.indices[self.weights.indptr[spot] : self.weights.indptr[spot + 1]]
        return np.sort(tiles)


def overlap(
    spots_um: Float[np.ndarray, "s 2"],
    tiles_um: Float[np.ndarray, "t 2"],
    tile_um: float,
    diameter_um: float,
    kernel: Kernel = "disc",
) -> SpotOverlap:
    """Return the weights of square tiles at round spots.

    Parameters
    ----------
    spots_um, tiles_um : arrays
        Centres, microns from the slide's corner.
    tile_um, diameter_um : float
        Side of a tile, diameter of a spot.
    kernel : str
        ``disc``: area of the spot on each tile; tiles may overlap one another. ``gaussian``: of the distance to the
        tile's centre, times the tile's area.

    Examples
    --------
    >>> spots, tiles = np.array([[0.0, 0.0]]), np.array([[-50.0, 0.0], [50.0, 0.0]])
    >>> overlap(spots, tiles, 100.0, 100.0).resample(np.array([1.0, 3.0])).tolist()
    [2.0]
    """
    radius, sigma = diameter_um / 2, diameter_um / np.sqrt(8 * np.log(2))
    reach = radius + tile_um / np.sqrt(2) if kernel == "disc" else SIGMAS * sigma
    near = cKDTree(tiles_um).query_ball_point(spots_um, reach) if len(tiles_um) else [[] for _ in spots_um]
    spot = np.repeat(np.arange(len(spots_um)), [len(tiles) for tiles in near])
    tile = np.array([index for tiles in near for index in tiles], dtype=int)
    apart = tiles_um[tile] - spots_um[spot]
    if kernel == "disc":
        weight = disc_area_on_square(apart / radius, tile_um / radius) / np.pi
    else:
        weight = np.exp(-((apart / sigma) ** 2).sum(1) / 2) * tile_um**2 / (2 * np.pi * sigma**2)
    shares = weight > 1e-12
    matrix = csr_array((weight[shares], (spot[shares], tile[shares])), shape=(len(spots_um), len(tiles_um)))
    return SpotOverlap(matrix, np.minimum(matrix.sum(axis=1), 1.0))


def disc_area_on_square(centre: Float[np.ndarray, "t 2"], side: float) -> Float[np.ndarray, "t"]:
    """Return the area that the disc of radius 1 around the origin shares with squares of some side."""
    low, high = centre - side / 2, centre + side / 2
    area: np.ndarray = (
        _corner_area(high[:, 0], high[:, 1])
        - _corner_area(low[:, 0], high[:, 1])
        - _corner_area(high[:, 0], low[:, 1])
        + _corner_area(low[:, 0], low[:, 1])
    )
    return np.asarray(np.maximum(area, 0.0))


def _corner_area(x: Float[np.ndarray, "t"], y: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """Area of the unit disc left of x and below y."""
    x, y = np.clip(x, -1, 1), np.clip(y, -1, 1)
    half_x, half_y = ((t * np.sqrt(1 - t**2) + np.arcsin(t)) / 2 for t in (x, y))
    left, below = 2 * half_x + np.pi / 2, 2 * half_y + np.pi / 2
    inside = x * y + half_x + half_y + np.pi / 4
    outside = np.where(y < 0, np.where(x < 0, 0.0, below), np.where(x < 0, left, left + below - np.pi))
    return np.where(x**2 + y**2 < 1, inside, outside)
