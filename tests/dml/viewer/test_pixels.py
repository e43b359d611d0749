"""Deep-zoom tiles against OpenSlide's own generator and against the slide reader; memory of caches."""

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from dml.core.errors import InputError
from dml.slides.reader import open_slide
from dml.viewer import pixels as pixels_module
from dml.viewer.pixels import TILE, BlankPixels, OpenSlides, SlidePixels, TileCache
from tests.painted import tissue_pixels, with_a_hole, write_slide

WIDTH, HEIGHT = 1700, 1300


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("pixels") / "s.tif", tissue_pixels(WIDTH, HEIGHT), mpp=0.5)


def test_tiles_are_those_of_openslide(path: Path) -> None:
    ours = SlidePixels(path, None)
    with openslide.OpenSlide(path) as slide:
        theirs = DeepZoomGenerator(slide, tile_size=TILE, overlap=0)
        assert ours.max_level == theirs.level_count - 1
        for level in range(theirs.level_count):
            assert ours.level_size(level) == theirs.level_dimensions[level]
            if max(ours.level_size(level)) < 64:  # a pixel of the border is most of these
                continue
            columns, rows = theirs.level_tiles[level]
            for column, row in {(0, 0), (columns - 1, rows - 1), (columns // 2, rows // 2)}:
                expected = np.asarray(theirs.get_tile(level, (column, row)), float)
                made = np.asarray(ours.tile(level, column, row), float)
                assert made.shape == expected.shape
                exact = level > ours.max_level - 3  # the levels of the file
                assert np.abs(made - expected).mean() <= (0 if exact and min(made.shape[:2]) == TILE else 12)


def test_the_finest_tiles_are_the_pixels_of_the_slide(path: Path) -> None:
    ours = SlidePixels(path, None)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(
            np.asarray(ours.tile(ours.max_level, 2, 1)), slide.read_tile(2 * TILE, TILE, TILE, 0.5)
        )
        np.testing.assert_array_equal(
            np.asarray(ours.square(300.0, 250.0, 128, 1.0)), slide.read_tile(600 - 128, 500 - 128, 128, 1.0)
        )


@pytest.mark.parametrize(("level", "column", "row"), [(-1, 0, 0), (12, 0, 0), (11, 7, 0), (11, 0, 6), (11, -1, 0)])
def test_tiles_beyond_the_slide_are_refused(path: Path, level: int, column: int, row: int) -> None:
    with pytest.raises(InputError, match=r"no (tile|level)"):
        SlidePixels(path, None).tile(level, column, row)


def test_a_slide_without_pyramid_is_reduced_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = write_slide(tmp_path / "flat.tif", tissue_pixels(1500, 1100), levels=1)
    whole = np.asarray(SlidePixels(flat, None).tile(8, 0, 0), float)
    sizes = []
    monkeypatch.setattr(pixels_module, "MAX_REDUCTION", 2)
    stepwise = SlidePixels(flat, None)
    with stepwise._handle() as slide:
        read = slide.read
        monkeypatch.setattr(slide, "read", lambda x, y, size, mpp: sizes.append(mpp) or read(x, y, size, mpp))
    np.testing.assert_allclose(np.asarray(stepwise.tile(8, 0, 0), float), whole, atol=3)
    assert set(sizes) == {1.0}


def test_an_ome_tiff_is_shown_as_any_slide(tmp_path: Path) -> None:
    image = tissue_pixels(700, 500)
    path = tmp_path / "s.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, image, ome=True, photometric="rgb", tile=(256, 256), metadata={"axes": "YXS", **sizes})
    pixels = SlidePixels(path, None)
    np.testing.assert_array_equal(np.asarray(pixels.tile(pixels.max_level, 1, 0)), image[:256, 256:512])
    pixels.close()


def test_a_damaged_part_does_not_spoil_the_rest(tmp_path: Path) -> None:
    path = with_a_hole(write_slide(tmp_path / "s.tif", tissue_pixels(1000, 1000)))
    pixels = SlidePixels(path, None)
    with pytest.raises(InputError, match="truncated or damaged"):
        pixels.tile(pixels.max_level, 3, 3)
    assert pixels.tile(pixels.max_level, 0, 0).size == (TILE, TILE)


def test_thumbnails_have_the_shape_of_the_slide(path: Path) -> None:
    thumbnail = SlidePixels(path, None).thumbnail(160)
    assert max(thumbnail.size) == 160
    assert thumbnail.width / thumbnail.height == pytest.approx(WIDTH / HEIGHT, rel=0.02)


def test_a_slide_without_pixels_has_the_extent_of_its_tiles() -> None:
    blank = BlankPixels(np.array([[128.0, 128.0], [640.0, 384.0]]), 256.0)
    assert blank.dimensions == (896, 640)
    assert np.asarray(blank.tile(0, 0, 0)).min() == 255


def test_caches_are_bounded(path: Path, tmp_path: Path) -> None:
    cache = TileCache(1000)
    for number in range(100):
        cache.put((number,), bytes(100))
    assert [cache.get((number,)) is not None for number in (0, 89, 90, 99)] == [False, False, True, True]
    cache.put((99,), bytes(950))
    assert cache.get((98,)) is None
    slides = OpenSlides(2)
    copies = [tmp_path / f"{number}.tif" for number in range(4)]
    for copy in copies:
        copy.write_bytes(path.read_bytes())
    opened = [slides.get(copy, None) for copy in copies]
    assert len(slides._open) == 2
    assert isinstance(opened[0].tile(11, 0, 0), Image.Image)  # a request that still holds a closed slide is answered
    slides.close()
