"""A real Aperio slide: the small region of CMU-1 from OpenSlide's test data (CC0)."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.config.params import Tiles
from dml.slides.grid import tile_grids
from dml.slides.reader import open_slide
from dml.slides.thumbnails import STRIP, save_overview
from dml.slides.tissue import find_tissue, mask_mpp

pytestmark = pytest.mark.data


@pytest.fixture
def path(shared_data: Path) -> Path:
    result = shared_data / "slides" / "cmu-1-small-region.svs"
    if not result.exists():
        pytest.skip(f"{result} is not there")
    return result


def test_from_file_to_tiles(path: Path, tmp_path: Path) -> None:
    with open_slide(path) as slide:
        assert (slide.mpp, slide.vendor, slide.dimensions) == (0.499, "aperio", (2220, 2967))
        slide.probe(0.5)
        mask = find_tissue(slide.thumbnail(mask_mpp(slide))).mask
        assert 0.3 < mask.mean() < 0.4
        # read off the picture: the upper left and the right margin are glass, the lower middle is dermis
        height, width = mask.shape
        assert not mask[: height // 4, : width // 4].any()
        assert mask[int(0.7 * height) : int(0.8 * height), int(0.4 * width) : int(0.6 * width)].mean() > 0.95
        grids = tile_grids(slide, mask, Tiles())
        assert {mpp: len(grid.coords_px) for mpp, grid in grids.items()} == {0.5: 38, 1.0: 12}
        three = tile_grids(slide, mask, Tiles(mpps=(0.5, 1.0, 2.0)))
        assert {mpp: len(grid.coords_px) for mpp, grid in three.items()} == {0.5: 38, 1.0: 12, 2.0: 4}
        save_overview(slide, mask, grids, tmp_path / "overview.jpg")
    with Image.open(tmp_path / "overview.jpg") as overview:
        assert overview.size == (766, 1024 + STRIP)


def test_a_tile_is_resampled_from_0499_to_05(path: Path) -> None:
    with open_slide(path) as slide:
        region = Image.fromarray(slide.read(1000, 1500, (300, 300), slide.mpp))
        result = slide.read_tile(1010, 1510, 256, 0.5)
    side = 256 * 0.5 / 0.499
    expected = region.resize((256, 256), Image.Resampling.LANCZOS, box=(10, 10, 10 + side, 10 + side))
    assert np.abs(result.astype(int) - np.asarray(expected).astype(int)).max() <= 1
