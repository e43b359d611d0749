"""JPEG, PNG and TIFF in strips as slides: exact pixels, exact averages, bounded memory, clear refusals."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dml.config.params import Tiles
from dml.core.errors import InputError
from dml.core.limits import VARIABLE
from dml.slides import pixel_file
from dml.slides.reader import open_slide
from dml.slides.tile_slide import SlideOptions, tile_file
from tests.painted import tissue_pixels, write_slide

PIXELS = tissue_pixels(701, 523, seed=5)
MPP = 0.5


def averaged(pixels: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    height, width = (length // side for length in pixels.shape[:2])
    blocks = pixels[: height * side, : width * side].reshape(height, side, width, side, 3)
    return np.asarray(blocks.mean(axis=(1, 3)))


def write(path: Path, how: str) -> Path:
    image = Image.fromarray(PIXELS)
    rgba = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    tiff: dict[str, tuple[NDArray[np.uint8], dict[str, Any]]] = {
        "strips": (PIXELS, {"rowsperstrip": 7}),
        "one strip": (PIXELS, {"rowsperstrip": len(PIXELS)}),
        "deflate": (PIXELS, {"rowsperstrip": 50, "compression": "zlib"}),
        "deflate, one strip": (PIXELS, {"rowsperstrip": len(PIXELS), "compression": "zlib"}),
        "planes": (np.moveaxis(PIXELS, -1, 0), {"rowsperstrip": 50, "planarconfig": "separate", "compression": "zlib"}),
        "big": (PIXELS, {"bigtiff": True, "rowsperstrip": 9}),
        "alpha": (rgba, {"rowsperstrip": 50, "extrasamples": ["unassalpha"]}),
        "premultiplied": (rgba, {"rowsperstrip": 50, "extrasamples": ["assocalpha"]}),
    }
    if how in tiff:
        data, options = tiff[how]
        tifffile.imwrite(path, data, photometric="rgb", metadata=None, **options)
    elif how == "png alpha":
        image.putalpha(255)
        image.save(path, "PNG")
    else:
        image.save(path, how.split()[0], interlace=1 if how == "PNG interlaced" else 0)
    return path


LOSSLESS = ["PNG", "png alpha", "strips", "one strip", "deflate", "deflate, one strip", "planes", "big", "alpha"]


@pytest.mark.parametrize("how", [*LOSSLESS, "premultiplied"])
def test_every_pixel_is_that_of_the_file(tmp_path: Path, how: str) -> None:
    with open_slide(write(tmp_path / "image", how), MPP) as slide:
        assert slide.dimensions == (701, 523)
        assert (slide.mpp, slide.resolution.source) == (MPP, "slide list")
        np.testing.assert_array_equal(slide.read(0, 0, (701, 523), MPP), PIXELS)
        np.testing.assert_array_equal(slide.read(130, 90, (200, 150), MPP), PIXELS[90:240, 130:330])
        slide.probe(MPP)


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow(tmp_path: Path, quality: int, progressive: bool) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(PIXELS).save(path, quality=quality, progressive=progressive, dpi=(72, 72))
    with Image.open(path) as image:
        expected = np.asarray(image)
    with open_slide(path, MPP) as slide:
        assert (slide.vendor, slide.resolution.source, slide.notes) == ("jpeg", "slide list", ())
        np.testing.assert_array_equal(slide.read(0, 0, (701, 523), MPP), expected)


@pytest.mark.parametrize("side", [2, 4, 8])
@pytest.mark.parametrize("how", ["PNG", "deflate"])
def test_whole_ratios_are_averages_of_the_area(tmp_path: Path, side: int, how: str) -> None:
    expected = averaged(PIXELS, side)
    height, width = expected.shape[:2]
    with open_slide(write(tmp_path / "image", how), MPP) as slide:
        whole = slide.read(0, 0, (width, height), MPP * side)
        inner = slide.read(8 * side, 4 * side, (20, 30), MPP * side)
    assert np.abs(whole - expected).max() <= 0.5
    assert np.abs(inner - expected[4:34, 8:28]).max() <= 0.5


def test_sixteen_pixels_are_averaged_over_the_coarsest_level(tmp_path: Path) -> None:
    expected = averaged(PIXELS, 16)
    with open_slide(write(tmp_path / "image", "PNG"), MPP) as slide:
        assert np.abs(slide.read(0, 0, expected.shape[1::-1], MPP * 16) - expected).max() <= 1


def test_a_fractional_ratio_equals_a_crop_of_the_whole_resampled_image(tmp_path: Path) -> None:
    side, ratio, x, y = 96, 1.4, 33.3, 71.7
    box = (x, y, x + side * ratio, y + side * ratio)
    expected = Image.fromarray(PIXELS).resize((side, side), Image.Resampling.LANCZOS, box=box)
    with open_slide(write(tmp_path / "image", "PNG"), MPP) as slide:
        result = slide.read_tile(x, y, side, MPP * ratio)
    assert np.abs(result.astype(int) - np.asarray(expected)).max() <= 1


def test_outside_is_white_glass(tmp_path: Path) -> None:
    with open_slide(write(tmp_path / "image", "PNG"), MPP) as slide:
        corner = slide.read(650, 500, (100, 40), MPP)
        before = slide.read(-30, -20, (50, 40), MPP)
        np.testing.assert_array_equal(corner[:23, :51], PIXELS[500:, 650:])
        np.testing.assert_array_equal(before[20:, 30:], PIXELS[:20, :20])
        assert (corner[23:] == 255).all()
        assert (corner[:, 51:] == 255).all()
        assert (before[:20] == 255).all()
        assert (slide.read(2000, 2000, (10, 10), MPP) == 255).all()
        assert (slide.read(-200, 0, (10, 10), MPP) == 255).all()


def test_the_same_tiles_as_a_slide_with_a_pyramid(tmp_path: Path) -> None:
    tiles = Tiles(mpps=(0.5, 1.0), tile_px=64)
    slide = tile_file(write_slide(tmp_path / "a.tif", PIXELS, mpp=MPP), tiles)
    image = tile_file(write(tmp_path / "a.png", "PNG"), tiles, SlideOptions(mpp=MPP))
    for mpp, grid in slide.grids.items():
        np.testing.assert_array_equal(image.grids[mpp].coords_um, grid.coords_um)
    assert image.facts["tiles"] == slide.facts["tiles"] > 0


def test_transparent_is_white_and_a_palette_is_colour(tmp_path: Path) -> None:
    clear = np.dstack([PIXELS, np.where(np.arange(701) < 300, 0, 255)[None].repeat(523, axis=0)]).astype(np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    with open_slide(tmp_path / "clear.png", MPP) as slide:
        read = slide.read(0, 0, (701, 523), MPP)
    assert (read[:, :300] == 255).all()
    np.testing.assert_array_equal(read[:, 300:], PIXELS[:, 300:])
    few = Image.fromarray(PIXELS).quantize(64)
    few.save(tmp_path / "few.png")
    palette = np.asarray(few.getpalette("RGB")[: 3 * 256], np.uint16)
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, : len(palette) // 3] = palette.reshape(-1, 3).T * 257
    tifffile.imwrite(tmp_path / "few.tif", np.asarray(few), photometric="palette", colormap=colormap, rowsperstrip=40)
    for name in ("few.png", "few.tif"):
        with open_slide(tmp_path / name, MPP) as slide:
            np.testing.assert_array_equal(slide.read(0, 0, (701, 523), MPP), np.asarray(few.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_an_exif_orientation_is_undone_and_noted(tmp_path: Path, orientation: int, kind: str) -> None:
    path = tmp_path / f"turned.{kind}"
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    with open_slide(path, MPP) as slide:
        assert slide.dimensions == expected.shape[1::-1]
        np.testing.assert_array_equal(slide.read(0, 0, slide.dimensions, MPP), expected)
        assert bool(slide.notes) == (orientation != 1)
        assert not slide.notes or f"EXIF orientation {orientation}" in slide.notes[0]


@pytest.mark.parametrize(
    ("mode", "name", "message"),
    [
        ("CMYK", "a.jpg", r"the colours of a printer \(CMYK\).*Export it as RGB"),
        ("L", "a.jpg", "grey.*Export it as RGB"),
        ("LA", "a.png", "grey"),
        ("1", "a.png", "black and white"),
        ("I;16", "a.png", "16 bits a channel"),
    ],
)
def test_what_is_no_colour_image_is_refused(tmp_path: Path, mode: str, name: str, message: str) -> None:
    grey = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30)
    image = Image.fromarray(grey) if mode == "I;16" else Image.fromarray(PIXELS[:40, :30]).convert(mode)
    image.save(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name[0]}\.{name[2:]}: {message}"):
        open_slide(tmp_path / name, MPP)


def test_sixteen_bits_of_colour_are_refused(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + bytes(6 * 4) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    tifffile.imwrite(tmp_path / "deep.tif", PIXELS.astype(np.uint16), photometric="rgb")
    for name in ("deep.png", "deep.tif"):
        with pytest.raises(InputError, match=r"16 bits a channel.*8 bits"):
            open_slide(tmp_path / name, MPP)


def test_other_tiffs_are_refused_by_name(tmp_path: Path) -> None:
    cmyk = np.dstack([PIXELS, PIXELS[..., 0]])
    tifffile.imwrite(tmp_path / "print.tif", cmyk, photometric="separated")
    tifffile.imwrite(tmp_path / "grey.tif", PIXELS[..., 0])
    tifffile.imwrite(tmp_path / "turned.tif", PIXELS, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    lzma = {"tile": (64, 64), "compression": "lzma"}
    tifffile.imwrite(tmp_path / "tiled.tif", PIXELS, photometric="rgb", **lzma)
    for name, message in (
        ("print.tif", "SEPARATED of 4 channels"),
        ("grey.tif", "MINISBLACK of 1 channels"),
        ("turned.tif", r"stored turned or mirrored \(orientation 6\)\. Save it upright"),
        ("tiled.tif", "Unsupported TIFF compression"),
    ):
        with pytest.raises(InputError, match=message):
            open_slide(tmp_path / name, MPP)


def test_the_resolution_is_that_of_the_slide_list_or_of_tiff_tags(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", dpi=(50800, 50800))  # 0.5 microns, if it were one
    with pytest.raises(InputError, match="microns per pixel unknown"):
        open_slide(tmp_path / "a.jpg")
    for dpi, known in ((72, None), (50800, 0.5)):
        tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", resolution=(dpi, dpi), resolutionunit="INCH")
        if known is None:
            with pytest.raises(InputError, match="a default of image programs"):
                open_slide(tmp_path / "a.tif")
        else:
            with open_slide(tmp_path / "a.tif") as slide:
                assert (slide.mpp, slide.resolution.source) == (known, "file")


def test_the_largest_image_of_a_tiff_counts(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(PIXELS[:50, :60], photometric="rgb", metadata=None)
        tif.write(PIXELS, photometric="rgb", metadata=None)
    with open_slide(tmp_path / "a.tif", MPP) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, (701, 523), MPP), PIXELS)
        assert slide.notes == ("the largest of 2 images in the file is used",)


def test_directories_without_end_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "stack.tif") as tif:
        for _ in range(105):
            tif.write(PIXELS[:8, :8], photometric="rgb", metadata=None)
    with pytest.raises(InputError, match=r"more than 100 images in one TIFF.*Export the slide as one image"):
        open_slide(tmp_path / "stack.tif", MPP)


@pytest.mark.parametrize("how", ["JPEG", "PNG", "strips", "deflate", "one strip"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_images_are_refused_before_tiles_are_read(tmp_path: Path, how: str, share: float) -> None:
    path = write(tmp_path / "cut", how)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    def look() -> None:
        with open_slide(path, MPP) as slide:
            slide.probe(MPP)

    with pytest.raises(InputError, match=r"cut: .*(truncated|the file ends)"):
        look()


def bomb(path: Path, side: int = 65535) -> Path:
    """Billions of pixels in 70 bytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"65535 x 65535 pixels, more than the 1000000000.*limits\.image_pixels"):
        open_slide(bomb(tmp_path / "bomb.png"), MPP)
    with pytest.raises(InputError, match=r"it declares 30000 x 30000 pixels in \d+ bytes"):
        open_slide(bomb(tmp_path / "bomb.png", 30_000), MPP)
    tifffile.imwrite(tmp_path / "none.tif", PIXELS, photometric="rgb")
    with tifffile.TiffFile(tmp_path / "none.tif", mode="r+") as tif:
        tif.pages[0].tags["ImageWidth"].overwrite(0)
    with pytest.raises(InputError, match=r"none\.tif: "):
        open_slide(tmp_path / "none.tif", MPP)
    monkeypatch.setenv(VARIABLE, '{"image_pixels": 100000}')
    for how in ("JPEG", "PNG", "strips"):
        with pytest.raises(InputError, match=r"701 x 523 pixels, more than the 100000"):
            open_slide(write(tmp_path / "large", how), MPP)


def test_too_little_room_for_the_pixels_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("usage", (), {"free": 1000})
    monkeypatch.setattr(pixel_file.shutil, "disk_usage", lambda _: full)
    with (
        open_slide(write(tmp_path / "image", "PNG"), MPP) as slide,
        pytest.raises(InputError, match=r"are free.*TMPDIR"),
    ):
        slide.probe(MPP)


def test_handles_share_pixels_that_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    path = write(tmp_path / "image.png", "PNG")
    with open_slide(path, MPP) as one, open_slide(path, MPP) as two:
        one.probe(MPP)
        assert one._handle._pixels is two._handle._pixels
        np.testing.assert_array_equal(two.read(0, 0, (10, 10), MPP), PIXELS[:10, :10])
        assert not any(folder.iterdir())
        one.close()
        np.testing.assert_array_equal(two.read(0, 0, (10, 10), MPP), PIXELS[:10, :10])
    assert len(pixel_file._shared) == 0
    Image.fromarray(255 - PIXELS).save(path)  # another image of the same name is decoded anew
    with open_slide(path, MPP) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, (10, 10), MPP), 255 - PIXELS[:10, :10])


def test_finer_tiles_are_refused_or_interpolated_and_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "image.png", "PNG")
    tiles = Tiles(mpps=(0.25, 0.5), tile_px=64)
    with pytest.raises(InputError, match=r"finest resolution is 0\.5 .*slides\.upsample: true"):
        tile_file(path, tiles, SlideOptions(mpp=MPP))
    tiled = tile_file(path, tiles, SlideOptions(mpp=MPP, upsample=True))
    assert "tiles at 0.25 microns per pixel are interpolated: the image has 0.5" in tiled.facts["notes"]
    whole = Image.fromarray(PIXELS).resize((1402, 1046), Image.Resampling.LANCZOS)
    with open_slide(path, MPP, upsample=True) as slide:
        result = slide.read_tile(100, 50, 64, 0.25)
    assert np.abs(result.astype(int) - np.asarray(whole)[100:164, 200:264]).max() <= 1


SCRIPT = """
import sys
from pathlib import Path
from dml.slides.reader import open_slide

def peak():  # kilobytes; unlike ru_maxrss without what the process was before it became this one
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

before = peak()
with open_slide(Path(sys.argv[1]), 0.5) as slide:
    slide.read_tile(0, 0, 256, 0.5)
    decoded = peak()
    slide.probe(0.5)
    slide.thumbnail(8.0)
    for y in range(0, slide.dimensions[1], 997):
        for x in range(0, slide.dimensions[0], 997):
            slide.read_tile(x, y, 256, 0.5)
print(1024 * (decoded - before), 1024 * (peak() - before))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("a.jpg", 5.5), ("progressive.jpg", 8.0), ("a.png", 5.5), ("a.tif", 4.5)])
def test_a_hundred_megapixels_are_read_in_bounded_memory(tmp_path: Path, name: str, most: float) -> None:
    """`most` bytes of memory a pixel, with the pages of the temporary file, which the system may take back.

    A progressive JPEG cannot be decoded without the coefficients of the whole image.
    """
    tile = Image.fromarray(tissue_pixels(1000, 1000, seed=1))
    image = Image.new("RGB", (10_000, 10_000))
    for x in range(0, 10_000, 1000):
        for y in range(0, 10_000, 1000):
            image.paste(tile, (x, y))
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, np.asarray(image), photometric="rgb", rowsperstrip=16, compression="zlib")
    else:
        image.save(tmp_path / name, **({"progressive": True} if "progressive" in name else {}))
    command = [sys.executable, "-c", SCRIPT, tmp_path / name]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    decoded, read = map(int, run.stdout.split())
    assert 0 < decoded <= read < most * 1e8
    assert name != "a.tif" or decoded < 1.5e8, "strips are decoded one after another"
