"""Smooth random fields, textures and random points, from which tissue is painted.

Shape legend: h w pixels of the canvas, t pixels of a texture, r c cells of the coarse raster (`CELL` pixels a side).
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.fft import irfft2
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

Cells = Float[np.ndarray, "r c"]
Rows = Float[np.ndarray, "some w"]
CELL = 8
TEXTURE_PX = 1024
TEXTURES: dict[str, tuple[tuple[float, tuple[float, float]], ...]] = {
    "fibres": ((1.0, (1.0, 5.0)), (0.6, (1.6, 1.6)), (0.6, (2.2, 13.0)), (0.7, (5.0, 7.0))),
    "grains": ((1.0, (0.8, 0.8)), (0.6, (2.0, 2.0))),
    "clumps": ((1.0, (7.0, 7.0)), (0.5, (3.0, 3.0))),
    "discs": ((1.0, (2.2, 2.2)),),
}
"""Layers of each texture: weight, and the width of its grain down and along, in pixels."""


def raster_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return how many cells cover a canvas, with one spare row and column for interpolation."""
    return shape[0] // CELL + 2, shape[1] // CELL + 2


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Cells:
    """Return Gaussian noise [r c] of mean 0 and variance 1 that is correlated over `scale` cells."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), scale, mode="reflect", truncate=3)
    standard: Cells = (noise - noise.mean()) / max(float(noise.std()), 1e-6)
    return standard


def upsample(cells: Cells, rows: slice, width: int) -> Rows:
    """Interpolate cells [r c] bilinearly to some rows of a canvas [h w] of float32."""
    position = np.arange(rows.start, rows.stop, dtype=np.float32) / CELL
    top = position.astype(np.intp)
    lines = cells[top] + (cells[top + 1] - cells[top]) * (position - top)[:, None]
    across = np.arange(CELL, dtype=np.float32) / CELL
    between = np.diff(lines, axis=1)[:, :, None] * across
    between += lines[:, :-1, None]
    result: Rows = between.reshape(len(lines), -1)[:, :width]
    return result.astype(np.float32, copy=False)


@cache
def make_texture(name: str) -> Float[np.ndarray, "t t"]:
    """Return a periodic texture [TEXTURE_PX TEXTURE_PX] of mean 0 and variance 1, the same in every process.

    `fibres` are fine and mostly along x (neuropil), `grains` a pixel or two wide, `clumps` a dozen, `discs` the size
    of red blood cells.
    """
    rng = np.random.default_rng(list(name.encode()))
    layers = np.sum([weight * _filter_noise(rng, *widths) for weight, widths in TEXTURES[name]], axis=0)
    standard: Float[np.ndarray, "t t"] = ((layers - layers.mean()) / layers.std()).astype(np.float32)
    return standard


def _filter_noise(rng: np.random.Generator, sigma_y: float, sigma_x: float) -> Float[np.ndarray, "t t"]:
    n = TEXTURE_PX
    fy, fx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)
    gain = np.exp(-2 * np.pi**2 * ((sigma_y * fy) ** 2 + (sigma_x * fx) ** 2)).astype(np.float32)
    shape = (n, n // 2 + 1)
    spectrum = rng.standard_normal(shape, np.float32) + np.complex64(1j) * rng.standard_normal(shape, np.float32)
    noise = irfft2(spectrum * gain, s=(n, n))
    standard: Float[np.ndarray, "t t"] = noise / noise.std()
    return standard


class Warp:
    """Textures tiled over a canvas and warped by smooth displacements of `bend_px` pixels, to hide the repetition."""

    def __init__(self, rng: np.random.Generator, names: Sequence[str], shape: tuple[int, int], bend_px: float) -> None:
        transposed = rng.random() < 0.5
        self._sources = [
            np.ascontiguousarray(make_texture(name).T if transposed else make_texture(name)).ravel() for name in names
        ]
        start = rng.integers(TEXTURE_PX, 3 * TEXTURE_PX, 2)
        cells = raster_shape(shape)
        self._shift = [smooth_noise(rng, cells, 20) * np.float32(bend_px) + np.float32(start[k]) for k in (0, 1)]
        self._width = shape[1]

    def rows(self, rows: slice) -> list[Rows]:
        """Return some rows of each texture."""
        down, right = (upsample(shift, rows, self._width) for shift in self._shift)
        down += np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        right += np.arange(self._width, dtype=np.float32)
        index = down.astype(np.int32) & (TEXTURE_PX - 1)
        index <<= TEXTURE_PX.bit_length() - 1
        index += right.astype(np.int32) & (TEXTURE_PX - 1)
        return [source.take(index) for source in self._sources]


def scatter_points(
    rng: np.random.Generator, intensity: Cells, expected: float, min_distance_px: float
) -> Float[np.ndarray, "n 2"]:
    """Draw points [n 2] (y, x in pixels) with a density [r c] that integrates to `expected` and a minimum distance.

    Of two points nearer than `min_distance_px` the later one is dropped (Matérn's second hard-core process).
    """
    total = float(intensity.sum())
    n = int(rng.poisson(expected)) if total > 0 else 0
    if n == 0:
        return np.empty((0, 2), dtype=np.float32)
    chances = np.cumsum(intensity.ravel(), dtype=np.float64)
    cells = np.searchsorted(chances, rng.random(n) * chances[-1], side="right").clip(0, intensity.size - 1)
    corner = np.stack(np.divmod(cells, intensity.shape[1]), axis=1)
    points = ((corner + rng.random((n, 2))) * CELL).astype(np.float32)
    if min_distance_px > 0:
        pairs = cKDTree(points).query_pairs(min_distance_px, output_type="ndarray")
        points = np.delete(points, np.unique(pairs.max(axis=1)) if len(pairs) else [], axis=0)
    return points
