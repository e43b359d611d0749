"""Opening slides, good and bad, and reading them at exactly the wanted resolution."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from dml.core.errors import InputError
from dml.slides.reader import blend_on_white, open_slide
from tests.painted import tissue_pixels, with_a_hole, write_slide


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return tissue_pixels(1000, 800, seed=3)


@pytest.fixture(scope="module")
def slide(pixels: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "a.tif", pixels, mpp=0.25)


def halved(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    height, width = (side // 2 for side in pixels.shape[:2])
    return pixels[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean(axis=(1, 3))


def test_facts(slide: Path) -> None:
    with open_slide(slide) as opened:
        assert (opened.mpp, opened.dimensions, opened.vendor) == (0.25, (1000, 800), "generic-tiff")
        assert opened.resolution.source == "file"


def test_objective_power_of_an_aperio_file(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.svs", pixels, mpp=None, description="Aperio painted|AppMag = 20")
    with open_slide(path, mpp=0.9) as opened:
        assert (opened.mpp, opened.resolution.source, opened.vendor) == (0.5, "objective", "aperio")


def test_unknown_resolution_takes_the_slide_list_or_fails(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", pixels, mpp=None)
    with open_slide(path, mpp=0.3) as opened:
        assert (opened.mpp, opened.resolution.source) == (0.3, "slide list")
    with pytest.raises(InputError, match="microns per pixel unknown"):
        open_slide(path)


def test_finest_level_is_read_as_it_is(slide: Path, pixels: NDArray[np.uint8]) -> None:
    with open_slide(slide) as opened:
        np.testing.assert_array_equal(opened.read_tile(300, 200, 256, 0.25), pixels[200:456, 300:556])


def test_a_level_of_the_wanted_resolution_is_read_as_it_is(slide: Path, pixels: NDArray[np.uint8]) -> None:
    with open_slide(slide) as opened:
        result = opened.read_tile(200, 100, 256, 0.5)
    np.testing.assert_array_equal(result, halved(pixels).round()[50:306, 100:356].astype(np.uint8))


def test_whole_ratios_are_averaged(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    path = write_slide(tmp_path / "flat.tif", pixels, mpp=0.25, levels=1)
    with open_slide(path) as opened:
        result = opened.read_tile(200, 100, 256, 0.5).astype(float)
    assert np.abs(result - halved(pixels)[50:306, 100:356]).max() <= 0.5


@pytest.mark.parametrize(
    ("x", "y", "mpp"), [(200.0, 100.0, 0.4), (33.3, 71.7, 0.7), (0.0, 0.0, 0.3), (10.5, 20.25, 0.25)]
)
def test_other_ratios_equal_a_crop_of_the_whole_resampled_slide(
    pixels: NDArray[np.uint8], tmp_path: Path, x: float, y: float, mpp: float
) -> None:
    path = write_slide(tmp_path / "flat.tif", pixels, mpp=0.25, levels=1)
    ratio, side = mpp / 0.25, 128
    oracle = Image.fromarray(pixels).resize(
        (side, side), Image.Resampling.LANCZOS, box=(x, y, x + side * ratio, y + side * ratio)
    )
    with open_slide(path) as opened:
        result = opened.read_tile(x, y, side, mpp)
    assert np.abs(result.astype(int) - np.asarray(oracle).astype(int)).max() <= 1


@pytest.mark.parametrize(("mpp", "level"), [(0.25, 0), (0.45, 0), (0.5, 1), (0.501, 1), (0.95, 1), (1.0, 2), (3.0, 2)])
def test_the_nearest_finer_level_is_read_not_the_nearest_level(tmp_path: Path, mpp: float, level: int) -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    path = tmp_path / "coloured.tif"
    with tifffile.TiffWriter(path) as tif:
        for i, colour in enumerate(colours):
            flat = np.full((2048 >> i, 2048 >> i, 3), colour, np.uint8)
            tif.write(
                flat, tile=(256, 256), photometric="rgb", compression="zlib", metadata=None, subfiletype=int(i > 0),
                resolution=(4e4, 4e4), resolutionunit="CENTIMETER",
            )  # fmt: skip
    with open_slide(path) as opened:
        assert tuple(opened.read_tile(100, 100, 64, mpp)[32, 32]) == colours[level]


def test_outside_is_white(slide: Path) -> None:
    with open_slide(slide) as opened:
        tile = opened.read_tile(900, 700, 256, 0.25)
        beyond = opened.read_tile(950, 750, 100, 0.4)
    assert (tile[100:] == 255).all()
    assert (tile[:, 100:] == 255).all()
    assert (tile[:100, :100] != 255).any()
    assert (beyond[60:, 60:] == 255).all()


def test_transparency_is_white() -> None:
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    assert np.asarray(blend_on_white(image)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_thumbnail_equals_one_large_tile(slide: Path, pixels: NDArray[np.uint8]) -> None:
    with open_slide(slide) as opened:
        small = opened.thumbnail(1.0)
    assert small.shape == (200, 250, 3)
    assert np.abs(small.astype(float) - halved(halved(pixels))).max() <= 1.5


def test_finer_than_the_slide_is_refused(slide: Path) -> None:
    with open_slide(slide) as opened, pytest.raises(InputError, match=r"finest resolution is 0\.25 .*0\.125 is asked"):
        opened.read_tile(0, 0, 256, 0.125)


def test_a_hole_in_the_finest_level_is_found(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    path = with_a_hole(write_slide(tmp_path / "hole.tif", pixels))
    with (
        open_slide(path) as opened,
        pytest.raises(InputError, match=r"hole\.tif: truncated or damaged: level 0 cannot"),
    ):
        opened.probe(0.5)


def test_too_coarse_is_found(slide: Path) -> None:
    with open_slide(slide) as opened, pytest.raises(InputError, match=r"finest resolution is 0\.25"):
        opened.probe(0.1)


def truncated(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the file does not exist"),
        (b"", r"the file is empty \(0 bytes\)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(2000), "cannot be read"),
        (b"GIF89a" + bytes(2000), "not a slide"),
        (b"II*\0" + b"\xff" * 2000, "cannot be read .*Is it truncated or damaged"),
    ],
)
def test_not_a_slide(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bad.tif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"bad\.tif: {message}"):
        open_slide(path)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9, 0.995])
def test_truncated_slides_are_found_before_tiles_are_read(
    pixels: NDArray[np.uint8], tmp_path: Path, share: float
) -> None:
    path = truncated(write_slide(tmp_path / "cut.tif", pixels), share)

    def look() -> None:
        with open_slide(path) as opened:
            opened.probe(0.25)

    with pytest.raises(InputError, match=r"cut\.tif: .*truncated"):
        look()
