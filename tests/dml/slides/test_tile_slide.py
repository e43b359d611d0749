"""A slide is cut into tiles, or refused with what is on it and the setting that helps."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.phantoms import ALCIAN_BLUE, FULL, WHOLE, Phantom, haematoxylin_eosin, paint, single_stain
from dml.config.params import Tiles
from dml.core.errors import InputError
from dml.slides.reader import open_slide
from dml.slides.tile_slide import TiledSlide, tile_slide
from tests.painted import GLASS, TISSUE, write_slide

TILES = Tiles(mpps=(4.0, 8.0), tile_px=32)


def tile(path: Path, pixels: NDArray[np.uint8], tiles: Tiles = TILES, mpp: float = 4.0) -> TiledSlide:
    with open_slide(write_slide(path / "slide.tif", pixels, mpp=mpp, levels=1)) as slide:
        return tile_slide(slide, tiles)


def square(side: int, x: int = 256, y: int = 256) -> NDArray[np.uint8]:
    pixels = np.full((1024, 1024, 3), GLASS, np.uint8)
    pixels[y : y + side, x : x + side] = TISSUE
    return pixels


def test_facts_tell_how_much_stain_was_left_out(tmp_path: Path) -> None:
    def green(pixels: NDArray[np.float64]) -> None:
        pixels[40:110, 100:-100] = (20, 140, 60)

    facts = tile(tmp_path, paint(WHOLE, haematoxylin_eosin(WHOLE), over=green).pixels).facts
    assert 0.11 < facts["left_out"] < 0.14
    assert "green pen ink" in facts["notes"]
    assert 0.39 < facts["tissue"] < 0.42


@pytest.mark.parametrize(
    ("phantom", "message"),
    [
        (paint(~FULL, haematoxylin_eosin(~FULL)), r"no tissue found \(empty glass"),
        (
            paint(WHOLE, single_stain(WHOLE, ALCIAN_BLUE)),
            r"as blue pen ink\. For a special .*tiles\.remove_ink: false",
        ),
    ],
)
def test_a_slide_without_tissue_names_the_cause(tmp_path: Path, phantom: Phantom, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tile(tmp_path, phantom.pixels)


def test_a_special_stain_is_tiled_with_the_named_setting(tmp_path: Path) -> None:
    phantom = paint(WHOLE, single_stain(WHOLE, ALCIAN_BLUE))
    facts = tile(tmp_path, phantom.pixels, TILES.model_copy(update={"remove_ink": False})).facts
    np.testing.assert_allclose(facts["tissue"], phantom.tissue.mean(), atol=0.01)


def test_nothing_but_red_ink_is_refused(tmp_path: Path) -> None:
    pixels = np.full((512, 512, 3), GLASS, np.uint8)
    pixels[100:350, 100:350] = (222, 60, 70)
    with pytest.raises(InputError, match="100% as red pen ink"):
        tile(tmp_path, pixels)


def test_exactly_one_fine_tile_is_enough(tmp_path: Path) -> None:
    grids = tile(tmp_path, square(200), Tiles(mpps=(0.5, 1.0)), mpp=0.5).grids
    assert {mpp: grid.coords_px.tolist() for mpp, grid in grids.items()} == {0.5: [[256, 256]], 1.0: [[0, 0]]}


def test_too_little_tissue_names_a_setting_that_helps(tmp_path: Path) -> None:
    pixels, tiles = square(128), Tiles(mpps=(0.5, 1.0))
    with pytest.raises(InputError, match=r"is 50% tissue, the fullest 2\d%\. Set tiles\.min_tissue to 0\.2\d or less"):
        tile(tmp_path, pixels, tiles, mpp=0.5)
    grids = tile(tmp_path, pixels, tiles.model_copy(update={"min_tissue": 0.22}), mpp=0.5).grids
    assert [len(grid.coords_px) for grid in grids.values()] == [1, 1]
    with pytest.raises(InputError, match=r"is 50% tissue\. Lower tiles\.min_tissue_coarse"):
        tile(tmp_path, pixels, tiles.model_copy(update={"min_tissue": 0.2, "min_tissue_coarse": 0.5}), mpp=0.5)
