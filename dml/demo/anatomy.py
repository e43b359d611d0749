"""Content of a slide before it is painted: where tissue lies, and the density of each structure given the two factors.

Shape legend: r c cells of the coarse raster (fields.CELL pixels a side).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from dml.demo.fields import CELL, Cells, raster_shape, smooth_noise


@dataclass(frozen=True, slots=True)
class SlideContent:
    """How much of each structure a slide shows; densities are per square millimetre of tissue.

    The tumor factor sets `nuclei`, `atypia` and `mitoses`; the TME factor sets the rest. Drawn independently of both
    factors: `halo` (clear or pink rims of nuclei), `vacuoles`, `fragments`, `haemorrhage`.
    """

    nuclei: float
    atypia: float
    mitoses: float
    lymphocytes: float
    microglia: float
    cuffs: float
    vessels: float
    vessel_wall: float
    necrosis: float
    halo: float
    vacuoles: float
    fragments: int
    haemorrhage: float


def draw_content(rng: np.random.Generator, tumor: float, tme: float) -> SlideContent:
    """Map the two factors of a slide (standard normal) to the densities of its structures."""
    t, m = float(ndtr(tumor)), float(ndtr(tme))
    return SlideContent(
        nuclei=1000 * 5.2**t,
        atypia=t,
        mitoses=6 + 110 * t**2,
        lymphocytes=45 * 34**m,
        microglia=60 * 7**m,
        cuffs=1 + 22 * m**1.5,
        vessels=10 + 60 * m,
        vessel_wall=m,
        necrosis=0.0 if m < 0.35 else 0.3 * (m - 0.35) / 0.65,
        halo=float(rng.uniform(-0.22, 0.14)),
        vacuoles=float(rng.uniform(0, 0.8)),
        fragments=int(rng.choice([1, 1, 2])),
        haemorrhage=float(rng.choice([0.0, 0.0, 0.012])),
    )


@dataclass(frozen=True, slots=True)
class Raster:
    """Coarse fields [r c] of a slide, and its canvas in pixels.

    `edge` is above 0 inside tissue and grows inwards, `tissue` and `necrosis` are 0 to 1, `cellularity` is about 1.
    """

    canvas: tuple[int, int]
    edge: Cells
    tissue: Cells
    necrosis: Cells
    haemorrhage: Cells
    cellularity: Cells

    def tissue_mm2(self, mpp: float) -> float:
        """Area of the tissue in square millimetres."""
        return float(self.tissue.sum()) * (CELL * mpp / 1000) ** 2


def draw_raster(
    rng: np.random.Generator, canvas: tuple[int, int], margin: int, share: float, content: SlideContent
) -> Raster:
    """Draw the tissue's outline and regions; `share` of the slide inside the margins becomes tissue."""
    shape = raster_shape(canvas)
    height = _draw_outline(rng, shape, margin / CELL, content.fragments)
    inner = np.zeros(shape, dtype=bool)
    cells = margin // CELL
    inner[cells : shape[0] - cells - 2, cells : shape[1] - cells - 2] = True
    edge = height - np.quantile(height[inner], 1 - share)
    edge = np.where(inner, edge, np.minimum(edge, -0.05)).astype(np.float32)
    tissue = (edge > 0).astype(np.float32)
    size = min(shape) / 256
    necrosis = _draw_patches(rng, tissue, content.necrosis, 11 * size, deep=edge)
    haemorrhage = _draw_patches(rng, tissue, content.haemorrhage, 6 * size, deep=edge)
    cellularity = np.exp(0.28 * smooth_noise(rng, shape, 20 * size) + 0.12 * smooth_noise(rng, shape, 6))
    return Raster(canvas, edge, tissue, necrosis, haemorrhage, cellularity.astype(np.float32))


def _draw_outline(rng: np.random.Generator, shape: tuple[int, int], margin: float, fragments: int) -> Cells:
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) * n / (n - 2 * margin) for n in shape)
    height: Cells = np.full(shape, -9.0, dtype=np.float32)
    for k in range(fragments):
        away = 0.0 if fragments == 1 else 0.48 * (2 * k - 1)
        cy, cx = rng.normal(0, 0.06), away + rng.normal(0, 0.05)
        wide = 1.0 if fragments == 1 else 0.47
        distance = np.hypot((y[:, None] - cy) / 0.95, (x - cx) / wide)
        height = np.maximum(height, 1 - distance.astype(np.float32))
    scale = min(shape) / 256
    for strength, width in ((0.16, 26), (0.07, 9), (0.02, 2.5)):
        height = height + np.float32(strength) * smooth_noise(rng, shape, width * scale)
    rim = np.maximum(np.abs(y)[:, None], np.abs(x)) + np.float32(0.03) * smooth_noise(rng, shape, 7 * scale)
    result: Cells = height - 10 * np.maximum(rim - np.float32(0.9), 0)
    return result


def _draw_patches(rng: np.random.Generator, tissue: Cells, share: float, scale: float, deep: Cells) -> Cells:
    noise = smooth_noise(rng, tissue.shape, scale) + 1.5 * np.minimum(deep, 0.5)
    if share <= 0 or not tissue.any():
        return np.zeros_like(tissue)
    cut = np.quantile(noise[tissue > 0], 1 - share)
    patches: Cells = (((noise - cut) * 5 + 0.5).clip(0, 1) * tissue).astype(np.float32)
    return patches
