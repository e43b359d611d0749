"""Paint one slide: tissue from the coarse raster, nuclei, stain, artefacts.

Shape legend: h w pixels of the canvas, which is the slide plus a margin that is cropped at the end.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import map_coordinates

from dml.demo import sprites
from dml.demo.anatomy import Raster, SlideContent, draw_content, draw_raster
from dml.demo.artefacts import add_artefacts
from dml.demo.fields import CELL, Cells, Warp, make_texture, scatter_points, upsample
from dml.demo.stains import draw_site_stain, draw_slide_stain, redden
from dml.demo.vessels import SIDE_UM, Canvas, paint_vessels

STRIP = 128
"""Rows painted at a time, few enough for the processor's cache."""


@dataclass(frozen=True, slots=True)
class SlidePlan:
    """Everything that one painted slide depends on: seeds of the slide and of its site, its factors, its size."""

    seed: tuple[int, ...]
    site: tuple[int, ...]
    tumor: float
    tme: float
    slide_px: int
    mpp: float
    tissue: float


def paint(plan: SlidePlan) -> UInt8[np.ndarray, "height width 3"]:
    """Paint a slide.

    Returns
    -------
    uint8 array [height width 3]
        RGB at `plan.mpp`; sides are within 20 % of `plan.slide_px` and multiples of 16.
    """
    rng = np.random.default_rng(plan.seed)
    um = 1 / plan.mpp
    height, width = (16 * round(plan.slide_px * rng.uniform(low, high) / 16) for low, high in ((0.92, 1.1), (1.0, 1.2)))
    margin = CELL * int(np.ceil((SIDE_UM / 2 + 12) * um / CELL))
    content = draw_content(rng, plan.tumor, plan.tme)
    raster = draw_raster(
        rng, (height + 2 * margin, width + 2 * margin), margin, plan.tissue * rng.uniform(0.9, 1.1), content
    )
    canvas = _paint_matrix(rng, raster, content)
    area_mm2 = raster.tissue_mm2(plan.mpp)
    _paint_tumor_cells(rng, canvas, raster, content, area_mm2, um)
    _paint_microenvironment(rng, canvas, raster, content, area_mm2, um)
    stain = draw_slide_stain(rng, draw_site_stain(np.random.default_rng(plan.site)))
    image = stain.paint(_crop(canvas.haematoxylin, margin), _crop(canvas.eosin, margin))
    redden(image, _crop(canvas.blood, margin), make_texture("discs"))
    add_artefacts(rng, image, um)
    return image


def _crop(layer: Float[np.ndarray, "h w"], margin: int) -> Float[np.ndarray, "height width"]:
    return layer[margin:-margin, margin:-margin]


def _paint_matrix(rng: np.random.Generator, raster: Raster, content: SlideContent) -> Canvas:
    """Paint the extracellular background (fibrillary neuropil, necrosis, haemorrhage), a few rows at a time."""
    shape = raster.canvas
    warp = Warp(rng, ("fibres", "clumps", "grains"), shape, bend_px=45)
    canvas = Canvas(*(np.zeros(shape, dtype=np.float32) for _ in range(3)))
    for top in range(0, shape[0], STRIP):
        rows = slice(top, min(top + STRIP, shape[0]))
        fibres, clumps, grains = warp.rows(rows)
        cover = (upsample(raster.edge, rows, shape[1]) * 90 + 0.8 + fibres * 0.4).clip(0, 1)
        vacuoles = (0.9 * clumps - 0.15 * fibres - 1.3).clip(0, 1) * np.float32(content.vacuoles)
        eosin = (0.36 + 0.06 * fibres + 0.035 * clumps) * (1 - vacuoles)
        eosin *= upsample(0.7 + 0.3 * raster.cellularity, rows, shape[1])
        haematoxylin = (0.075 + 0.016 * grains + 0.02 * clumps) * (1 - vacuoles)
        if content.necrosis > 0:
            dead = upsample(raster.necrosis, rows, shape[1])
            eosin += dead * (0.60 + 0.06 * clumps + 0.07 * grains - eosin)
            haematoxylin += dead * (0.05 + 0.03 * grains)
        if content.haemorrhage > 0:
            canvas.blood[rows] = upsample(raster.haemorrhage, rows, shape[1]) * cover * 0.8
        canvas.haematoxylin[rows] = haematoxylin.clip(0, None) * cover
        canvas.eosin[rows] = eosin.clip(0.02, None) * cover
    return canvas


def _paint_tumor_cells(
    rng: np.random.Generator, canvas: Canvas, raster: Raster, content: SlideContent, area_mm2: float, um: float
) -> None:
    alive = raster.tissue * raster.cellularity * (1 - 0.96 * raster.necrosis)
    share = float(alive.sum() / max(raster.tissue.sum(), 1))
    cells = scatter_points(
        rng, alive, 1.15 * content.nuclei * area_mm2 * share, min_distance_px=um * (5.2 + 2.2 * content.atypia)
    )
    nuclei = sprites.render_tumor_nuclei(rng, 128, content.atypia, um)
    which = rng.integers(0, len(nuclei), len(cells))
    sprites.blend(canvas.eosin, nuclei.ring * np.float32(content.halo), which, cells)
    np.maximum(canvas.eosin, 0, out=canvas.eosin)
    sprites.stamp(canvas.haematoxylin, nuclei.haematoxylin, which, cells)
    dividing = scatter_points(rng, alive, content.mitoses * area_mm2 * share, min_distance_px=8 * um)
    figures = sprites.render_mitoses(rng, 24, um)
    which = rng.integers(0, len(figures), len(dividing))
    sprites.stamp(canvas.haematoxylin, figures.haematoxylin, which, dividing)


def _paint_microenvironment(
    rng: np.random.Generator, canvas: Canvas, raster: Raster, content: SlideContent, area_mm2: float, um: float
) -> None:
    alive = raster.tissue * (1 - 0.9 * raster.necrosis)
    rods = sprites.render_rods(rng, 48, um)
    inner = alive * (raster.edge > 0.03)
    vessels = paint_vessels(
        rng, canvas, scatter_points(rng, inner, content.vessels * area_mm2, 30 * um), content.vessel_wall, rods, um
    )
    microglia = scatter_points(rng, alive, content.microglia * area_mm2, 6 * um)
    sprites.stamp(canvas.haematoxylin, rods.haematoxylin, rng.integers(0, len(rods), len(microglia)), microglia)
    small = sprites.render_lymphocytes(rng, 48, um)
    cells = np.concatenate(
        [
            scatter_points(rng, alive, content.lymphocytes * area_mm2, 5 * um),
            _draw_cuffs(rng, vessels, content, area_mm2, um),
        ]
    )
    cells = cells[_sample_raster(raster.tissue, cells) > 0.5]
    sprites.stamp(canvas.haematoxylin, small.haematoxylin, rng.integers(0, len(small), len(cells)), cells)
    dust = scatter_points(rng, raster.necrosis, 2600 * area_mm2 * content.necrosis, 0)
    broken = sprites.render_debris(rng, 48, um)
    sprites.stamp(canvas.haematoxylin, broken.haematoxylin, rng.integers(0, len(broken), len(dust)), dust)


def _draw_cuffs(
    rng: np.random.Generator, vessels: Float[np.ndarray, "v 3"], content: SlideContent, area_mm2: float, um: float
) -> Float[np.ndarray, "n 2"]:
    """Draw lymphocytes around some of the vessels [v 3] (y, x, radius)."""
    n = min(len(vessels), int(rng.poisson(content.cuffs * area_mm2 * 2)))
    cuffed = vessels[rng.permutation(len(vessels))[:n]]
    n_cells = rng.integers(12, 45, n)
    vessel = np.repeat(np.arange(n), n_cells)
    turn, away = rng.uniform(0, 2 * np.pi, len(vessel)), np.abs(rng.normal(0, 9 * um, len(vessel))) + 2 * um
    reach = cuffed[vessel, 2] + away
    around = np.stack([np.sin(turn), np.cos(turn)], axis=1) * reach[:, None]
    cells: Float[np.ndarray, "n 2"] = (cuffed[vessel, :2] + around).astype(np.float32)
    return cells


def _sample_raster(cells: Cells, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
    value: Float[np.ndarray, n] = map_coordinates(cells, points.T / CELL, order=0, mode="constant")
    return value
