"""Smooth random fields, textures and random points: what painted tissue is made of.

Shape legend: h w pixels of the canvas, r c cells of the coarse raster (`CELL` pixels a side).
"""

from functools import cache

import numpy as np
from scipy.fft import irfft2
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

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


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Return Gaussian noise [r c] of mean 0 and variance 1 that is correlated over `scale` cells."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), scale, mode="reflect", truncate=3)
    standard: np.ndarray = (noise - noise.mean()) / max(float(noise.std()), 1e-6)
    return standard


def upsample(cells: np.ndarray, rows: slice, width: int) -> np.ndarray:
    """Interpolate cells [r c] bilinearly to some rows of a canvas [h w] of float32."""
    (top, down), (left, right) = _positions(rows.start, rows.stop), _positions(0, width)
    lines = cells[top] + (cells[top + 1] - cells[top]) * down[:, None]
    step = np.diff(lines, axis=1)
    result: np.ndarray = step.take(left, axis=1)
    result *= right
    result += lines.take(left, axis=1)
    return result


def _positions(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    position = np.arange(start, stop, dtype=np.float32) / CELL
    cell = position.astype(np.intp)
    return cell, position - cell


@cache
def texture(name: str) -> np.ndarray:
    """Return a periodic texture [TEXTURE_PX TEXTURE_PX] of mean 0 and variance 1, the same in every process.

    `fibres` are fine and mostly along x (neuropil), `grains` a pixel or two wide, `clumps` a dozen, `discs` the size
    of red blood cells.
    """
    rng = np.random.default_rng(list(name.encode()))
    layers = sum(weight * _filtered(rng, *widths) for weight, widths in TEXTURES[name])
    standard: np.ndarray = ((layers - np.mean(layers)) / np.std(layers)).astype(np.float32)
    return standard


def _filtered(rng: np.random.Generator, sigma_y: float, sigma_x: float) -> np.ndarray:
    n = TEXTURE_PX
    fy, fx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)
    gain = np.exp(-2 * np.pi**2 * ((sigma_y * fy) ** 2 + (sigma_x * fx) ** 2)).astype(np.float32)
    shape = (n, n // 2 + 1)
    spectrum = rng.standard_normal(shape, np.float32) + np.complex64(1j) * rng.standard_normal(shape, np.float32)
    noise: np.ndarray = irfft2(spectrum * gain, s=(n, n))
    return noise / noise.std()


class Warp:
    """A texture laid over a canvas, bent along smooth waves of `bend_px` pixels so that it never repeats visibly."""

    def __init__(self, rng: np.random.Generator, name: str, shape: tuple[int, int], bend_px: float) -> None:
        turned = rng.random() < 0.5
        self._source = np.ascontiguousarray(texture(name).T if turned else texture(name)).ravel()
        start = rng.integers(TEXTURE_PX, 3 * TEXTURE_PX, 2)
        cells = raster_shape(shape)
        self._shift = [smooth_noise(rng, cells, 20) * np.float32(bend_px) + np.float32(start[k]) for k in (0, 1)]
        self._width = shape[1]

    def rows(self, rows: slice) -> np.ndarray:
        """Return some rows of the canvas."""
        down, right = (upsample(shift, rows, self._width) for shift in self._shift)
        down += np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        right += np.arange(self._width, dtype=np.float32)
        index = down.astype(np.int32) & (TEXTURE_PX - 1)
        index <<= TEXTURE_PX.bit_length() - 1
        index += right.astype(np.int32) & (TEXTURE_PX - 1)
        return self._source.take(index)


def scatter(rng: np.random.Generator, intensity: np.ndarray, expected: float, apart_px: float) -> np.ndarray:
    """Draw points [n 2] (y, x in pixels) with a density [r c] that integrates to `expected`, none too close.

    Of two points nearer than `apart_px` the later one is dropped (Matérn's second hard-core process).
    """
    total = float(intensity.sum())
    n = int(rng.poisson(expected)) if total > 0 else 0
    if n == 0:
        return np.empty((0, 2), dtype=np.float32)
    chances = np.cumsum(intensity.ravel(), dtype=np.float64)
    cells = np.searchsorted(chances, rng.random(n) * chances[-1], side="right").clip(0, intensity.size - 1)
    corner = np.stack(np.divmod(cells, intensity.shape[1]), axis=1)
    points = ((corner + rng.random((n, 2))) * CELL).astype(np.float32)
    if apart_px > 0:
        pairs = cKDTree(points).query_pairs(apart_px, output_type="ndarray")
        points = np.delete(points, np.unique(pairs.max(axis=1)) if len(pairs) else [], axis=0)
    return points
