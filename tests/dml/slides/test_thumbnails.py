"""The overview picture shows slide, outline and tiles where they are."""

from pathlib import Path

import numpy as np
from PIL import Image

from dml.config.params import Tiles
from dml.slides.grid import tile_grids
from dml.slides.reader import open_slide
from dml.slides.thumbnails import SIDE, STRIP, save_overview
from dml.slides.tissue import find_tissue, mask_mpp
from tests.painted import GLASS, tissue_pixels, write_slide


def overview(path: Path, tiles: Tiles) -> Image.Image:
    with open_slide(path) as slide:
        mask = find_tissue(slide.thumbnail(mask_mpp(slide))).mask
        save_overview(slide, mask, tile_grids(slide, mask, tiles), path.with_suffix(".jpg"))
    with Image.open(path.with_suffix(".jpg")) as image:
        return image.convert("RGB")


def test_marks_are_where_tissue_and_tiles_are(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", tissue_pixels(2048, 1536))
    image = overview(path, Tiles(mpps=(0.5, 1.0), tile_px=128))
    assert image.size == (SIDE, SIDE * 3 // 4 + STRIP)
    pixels = np.asarray(image).astype(int)[:-STRIP]
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    outline = (green - np.maximum(red, blue)) > 60
    y, x = np.nonzero(outline)
    assert abs(x.min() - 0.2 * SIDE) < 12
    assert abs(x.max() - 0.8 * SIDE) < 12
    assert abs(y.min() - 0.2 * 0.75 * SIDE) < 12
    lines = (blue - red) > 60
    assert lines[300:460, 400:600].any()
    assert not lines[:60].any()
    assert np.abs(pixels[:40, :40] - GLASS).max() < 12


def test_a_slide_smaller_than_an_overview_is_not_enlarged(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", tissue_pixels(640, 512))
    assert overview(path, Tiles(mpps=(0.5,), tile_px=64)).size == (640, 512 + STRIP)


def test_the_scale_bar_is_as_long_as_it_says(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", tissue_pixels(2048, 1536))  # 0.5 microns per pixel, shown at 1
    strip = np.asarray(overview(path, Tiles(mpps=(0.5, 1.0), tile_px=128)).convert("L"))[-STRIP // 2]
    dark = np.flatnonzero(strip < 110)
    bar = dark[: np.flatnonzero(np.diff(dark, append=10**6) > 1)[0] + 1]
    assert abs(len(bar) - 100) <= 2  # 0.1 mm


def test_same_slide_same_bytes(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", tissue_pixels(640, 512))
    tiles = Tiles(mpps=(0.5,), tile_px=64)
    overview(path, tiles)
    first = path.with_suffix(".jpg").read_bytes()
    overview(path, tiles)
    assert path.with_suffix(".jpg").read_bytes() == first
