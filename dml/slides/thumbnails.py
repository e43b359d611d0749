"""An overview picture of a slide with its tissue outline and tiles, to see at a glance what the model will see."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw
from scipy import ndimage

from dml.files import atomic
from dml.slides.grid import corners_px
from dml.slides.opening import Slide
from dml.types import Mpp, TileGrid

SIDE = 1024
"""Longer side of an overview in pixels."""
_OUTLINE = (0, 150, 60)
_COARSE, _FINE = (20, 60, 200), (130, 160, 235)


def save_overview(slide: Slide, mask: Bool[np.ndarray, "h w"], grids: Mapping[Mpp, TileGrid], path: Path) -> None:
    """Write a JPEG of the slide: tissue outline green, tiles blue (light: the finest grid, dark: the coarsest).

    Parameters
    ----------
    slide : Slide
        Open slide.
    mask : bool [h w]
        Tissue over the whole slide, at any resolution.
    grids : mapping of mpp to TileGrid
        The tiles that were kept.
    path : Path
        Where to write.
    """
    mpp = max(max(slide.dimensions) * slide.mpp / SIDE, slide.mpp)
    image = Image.fromarray(slide.thumbnail(mpp))
    draw = ImageDraw.Draw(image)
    ordered = [grids[key] for key in sorted(grids)]
    for grid, colour in zip(ordered[:1] + ordered[1:][-1:], (_FINE, _COARSE), strict=False):
        _draw(draw, grid, slide.mpp / mpp, colour)
    outlined = _outlined(image, mask)
    with atomic(path) as temporary:
        outlined.save(temporary, format="JPEG", quality=85)


def _draw(draw: ImageDraw.ImageDraw, grid: TileGrid, scale: float, colour: tuple[int, int, int]) -> None:
    side = grid.tile_um / grid.slide_mpp * scale
    for x, y in corners_px(grid) * scale:
        draw.rectangle((x, y, x + side, y + side), outline=colour)


def _outlined(image: Image.Image, mask: Bool[np.ndarray, "h w"]) -> Image.Image:
    scaled = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
    edge = scaled & ~ndimage.binary_erosion(scaled, iterations=2, border_value=1)
    pixels = np.array(image)
    pixels[edge] = _OUTLINE
    return Image.fromarray(pixels)
