"""An overview picture of a slide: its tissue outline and its tiles, that is, what the model is given.

Below it a scale bar, and what the colours mean.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from dml.core.files import atomic
from dml.core.types import Mpp, TileGrid
from dml.slides.fields import Field
from dml.slides.grid import corners_px
from dml.slides.reader import Slide

SIDE = 1024
"""Longer side of an overview in pixels."""
_OUTLINE = (0, 150, 60)
_COARSE, _FINE = (20, 60, 200), (130, 160, 235)
_FIELD = (230, 110, 0)
_INK, _PAPER = (40, 40, 40), (255, 255, 255)
STRIP = 32
"""Height of the legend in pixels."""
_BARS_MM = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
"""Lengths a scale bar may have: the longest that takes at most an eighth of the width is drawn."""


def save_overview(
    slide: Slide, mask: Bool[np.ndarray, "h w"], grids: Mapping[Mpp, TileGrid], path: Path, fields: Sequence[Field] = ()
) -> None:
    """Write a JPEG of the slide: tissue green, tiles blue (light: the finest grid, dark: the coarsest), fields orange.

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
    fields : sequence of Field
        Boxes that the tiles were cut in.
    """
    mpp = max(max(slide.dimensions) * slide.mpp / SIDE, slide.mpp)
    image = Image.fromarray(slide.thumbnail(mpp))
    draw = ImageDraw.Draw(image)
    ordered = [grids[key] for key in sorted(grids)]
    drawn = list(zip(ordered[:1] + ordered[1:][-1:], (_FINE, _COARSE), strict=False))
    for grid, colour in drawn:
        _draw_tiles(draw, grid, slide.mpp / mpp, colour)
    counts = [(f"{_count_tiles(grid)} at {grid.mpp:g} microns/px", colour) for grid, colour in drawn]
    for field in fields:
        x, y, width, height = (length * slide.mpp / mpp for length in field)
        draw.rectangle((x, y, x + width, y + height), outline=_FIELD, width=2)
    named = [(f"{len(fields)} field{'' if len(fields) == 1 else 's'}", _FIELD)] if fields else []
    legend = [("tissue", _OUTLINE), *counts, *named]
    whole = _add_legend(_draw_outline(image, mask), legend, mpp)
    with atomic(path) as temporary:
        whole.save(temporary, format="JPEG", quality=85)


def _count_tiles(grid: TileGrid) -> str:
    tiles = len(grid.coords_px)
    return f"{tiles} tile{'' if tiles == 1 else 's'}"


def _add_legend(image: Image.Image, legend: Sequence[tuple[str, tuple[int, int, int]]], mpp: float) -> Image.Image:
    """Add a strip below the picture: scale bar, then a swatch and a text for each colour, as far as there is room."""
    whole = Image.new("RGB", (image.width, image.height + STRIP), _PAPER)
    whole.paste(image)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(14)
    middle = image.height + STRIP // 2
    millimetre = 1000 / mpp
    length = max((bar for bar in _BARS_MM if bar * millimetre <= image.width / 8), default=_BARS_MM[0])
    x: float = 8 + length * millimetre
    draw.rectangle((8, middle - 2, x, middle + 1), fill=_INK)
    for text, colour in [(f"{length:g} mm", None), *legend]:
        needed = font.getlength(text) + (0 if colour is None else 22)
        if x + 8 + needed > image.width:
            break
        x += 8
        if colour is not None:
            draw.rectangle((x + 6, middle - 5, x + 16, middle + 5), outline=colour, width=2)
            x += 22
        draw.text((x, middle), text, fill=_INK, font=font, anchor="lm")
        x += font.getlength(text)
    return whole


def _draw_tiles(draw: ImageDraw.ImageDraw, grid: TileGrid, scale: float, colour: tuple[int, int, int]) -> None:
    side = grid.tile_um / grid.slide_mpp * scale
    for x, y in corners_px(grid) * scale:
        draw.rectangle((x, y, x + side, y + side), outline=colour)


def _draw_outline(image: Image.Image, mask: Bool[np.ndarray, "h w"]) -> Image.Image:
    scaled = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
    edge = scaled & ~ndimage.binary_erosion(scaled, iterations=2, border_value=1)
    pixels = np.array(image)
    pixels[edge] = _OUTLINE
    return Image.fromarray(pixels)
