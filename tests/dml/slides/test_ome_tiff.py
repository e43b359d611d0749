"""OME-TIFF, interleaved, planar, tiled and in strips: the same pixels as OpenSlide gives for the same picture."""

import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dml.core.errors import InputError
from dml.slides.ome_tiff import OmeTiff, name_undecodable
from dml.slides.reader import open_slide
from tests.painted import tissue_pixels, write_slide

PIXELS = tissue_pixels(700, 520, seed=4)
HALF = PIXELS.reshape(260, 2, 350, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def write_ome(path: Path, planar: bool = False, tiled: bool = True, levels: int = 2, mpp: float | None = 0.25) -> Path:
    """As Bio-Formats writes a whole-slide image: sub-resolutions as SubIFDs."""
    metadata: dict[str, object] = {"axes": "CYX" if planar else "YXS"}
    if mpp is not None:
        metadata |= {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm"}
        metadata |= {"PhysicalSizeY": mpp * 1000, "PhysicalSizeYUnit": "nm"}
    options = {"tile": (128, 128)} if tiled else {"rowsperstrip": 50}
    options |= {"photometric": "minisblack" if planar else "rgb", "compression": "zlib"}
    pyramid = [PIXELS, HALF][:levels]
    with tifffile.TiffWriter(path, ome=True) as tif:
        for level, pixels in enumerate(pyramid):
            data = np.moveaxis(pixels, -1, 0) if planar else pixels
            extra = {"subfiletype": 1} if level else {"subifds": levels - 1, "metadata": metadata}
            tif.write(data, **options, **extra)
    return path


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tiled", [False, True])
def test_pixels_resolution_and_levels(tmp_path: Path, planar: bool, tiled: bool) -> None:
    with open_slide(write_ome(tmp_path / "s.ome.tif", planar, tiled)) as slide:
        assert (slide.mpp, slide.vendor, slide.dimensions) == (0.25, "ome-tiff", (700, 520))
        np.testing.assert_array_equal(slide.read(130, 90, (200, 150), 0.25), PIXELS[90:240, 130:330])
        np.testing.assert_array_equal(slide.read(200, 100, (60, 50), 0.5), HALF[50:100, 100:160])
        corner = slide.read(650, 500, (100, 40), 0.25)
        np.testing.assert_array_equal(corner[:20, :50], PIXELS[500:, 650:])
        assert (corner[20:] == 255).all(), "outside is glass"
        slide.probe(0.25)


def test_the_same_tiles_as_openslide(tmp_path: Path) -> None:
    with (
        open_slide(write_ome(tmp_path / "s.ome.tif")) as ome,
        open_slide(write_slide(tmp_path / "s.tif", PIXELS, mpp=0.25, levels=2)) as plain,
    ):
        assert plain.vendor == "generic-tiff"
        for mpp in (0.25, 0.3, 0.5, 1.0):
            np.testing.assert_array_equal(ome.read_tile(37.5, 61.0, 96, mpp), plain.read_tile(37.5, 61.0, 96, mpp))
        np.testing.assert_array_equal(ome.thumbnail(4.0), plain.thumbnail(4.0))


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "lzw", "zstd"])
def test_compressions_of_microscopes(tmp_path: Path, compression: str) -> None:
    pytest.importorskip(
        "imagecodecs", reason="imagecodecs is not installed: pip install -e '.[ome]' -c constraints.txt"
    )
    path = tmp_path / "s.ome.tif"
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, PIXELS, tile=(128, 128), photometric="rgb", compression=compression, metadata=metadata)
    with open_slide(path) as slide:
        assert (slide.mpp, slide.resolution.source) == (0.5, "OME-XML")
        slide.probe(0.5)
        read = slide.read(100, 100, (300, 300), 0.5).astype(int)
    assert np.abs(read - PIXELS[100:400, 100:400]).mean() < 3


def test_without_imagecodecs_openslide_reads_jpeg_and_the_xml_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imagecodecs")
    path = tmp_path / "s.ome.tif"
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    options = {"tile": (128, 128), "photometric": "rgb", "resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, PIXELS, compression="jpeg", metadata=metadata, **options)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with open_slide(path) as slide:
        assert (slide.vendor, slide.mpp, slide.resolution.source) == ("generic-tiff", 0.5, "OME-XML")
        slide.probe(0.5)


def test_a_compression_that_needs_imagecodecs_names_the_extra(tmp_path: Path) -> None:
    slide = OmeTiff(write_ome(tmp_path / "s.ome.tif"))
    error = name_undecodable(
        slide.path, 0, (0, 0), ValueError("<COMPRESSION.JPEG: 7> requires the 'imagecodecs' package")
    )
    slide.close()
    assert "pip install -e '.[ome]'" in str(error)


def test_transparent_is_white_in_planes(tmp_path: Path) -> None:
    planes = np.moveaxis(np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)]), -1, 0).copy()
    planes[:, :200] = 0
    path, metadata = tmp_path / "s.ome.tif", {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, planes, ome=True, photometric="minisblack", tile=(128, 128), metadata=metadata)
    with open_slide(path) as slide:
        read = slide.read(0, 100, (300, 200), 0.5)
    assert (read[:100] == 255).all()
    np.testing.assert_array_equal(read[100:], PIXELS[200:300, :300])


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
def test_transparent_is_white(tmp_path: Path, alpha: str) -> None:
    rgba = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    rgba[:200] = 0  # transparent black, as exports write what was not scanned
    path = tmp_path / "s.ome.tif"
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, rgba, tile=(128, 128), photometric="rgb", extrasamples=[alpha], metadata=metadata)
    with open_slide(path) as slide:
        read = slide.read(0, 100, (300, 200), 0.5)
    assert (read[:100] == 255).all()
    np.testing.assert_array_equal(read[100:], PIXELS[200:300, :300])


@pytest.mark.parametrize(("old", "new", "mpp"), [('"0.25"', '"0,25"', 0.25), ('X="0.25"', 'X=""', 0.25)])
def test_sizes_as_programs_write_them(tmp_path: Path, old: str, new: str, mpp: float) -> None:
    path = write_ome(tmp_path / "s.ome.tif", levels=1)
    tifffile.tiffcomment(path, tifffile.tiffcomment(path).replace(old, new).encode())
    with open_slide(path) as slide:
        assert slide.mpp == mpp


def test_an_empty_size_is_unknown(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "s.ome.tif", levels=1)
    comment = tifffile.tiffcomment(path).replace('"0.25"', '""').replace('"250.0"', '""')
    tifffile.tiffcomment(path, comment.encode())
    with pytest.raises(InputError, match="microns per pixel unknown"):
        open_slide(path)
    with open_slide(path, 0.5) as slide:
        assert slide.mpp == 0.5


def test_a_tile_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "s.ome.tif", levels=1)
    with tifffile.TiffFile(path, mode="r+") as tif:
        for name in ("TileWidth", "TileLength"):
            tif.pages[0].tags[name].overwrite(32768)
    handle = OmeTiff(path)
    with pytest.raises(InputError, match=r"a tile of 32768 x 32768 pixels"):
        handle.read_region((0, 0), 0, (8, 8))
    handle.close()


def test_a_tile_that_inflates_is_refused(tmp_path: Path) -> None:
    path, bomb = write_ome(tmp_path / "s.ome.tif", levels=1), zlib.compress(bytes(2**26), 9)
    with tifffile.TiffFile(path, mode="r+") as tif:
        for name, value in (("TileOffsets", path.stat().st_size), ("TileByteCounts", len(bomb))):
            tag = tif.pages[0].tags[name]
            tag.overwrite([value, *tag.value[1:]])
    with path.open("ab") as file:
        file.write(bomb)
    with open_slide(path) as slide, pytest.raises(InputError, match="a tile of 49152 bytes takes"):
        slide.probe(0.25)


def test_without_physical_size_the_list_says_it(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "s.ome.tif", levels=1, mpp=None)
    with pytest.raises(InputError, match="microns per pixel unknown"):
        open_slide(path)
    with open_slide(path, 0.5) as slide:
        assert (slide.mpp, slide.resolution.source) == (0.5, "slide list")


@pytest.mark.parametrize(
    ("image", "axes"),
    [(np.zeros((5, 300, 300), np.uint8), "CYX"), (np.zeros((300, 300), np.uint16), "YX")],
    ids=["five channels", "16 bits"],
)
def test_fluorescence_is_refused_by_name(tmp_path: Path, image: np.ndarray, axes: str) -> None:
    path = tmp_path / "f.ome.tif"
    tifffile.imwrite(path, image, ome=True, metadata={"axes": axes, "PhysicalSizeX": 0.5}, photometric="minisblack")
    with pytest.raises(InputError, match=rf"f\.ome\.tif: an OME-TIFF of axes {axes}.*Export the bright-field image"):
        OmeTiff(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "s.ome.tif", levels=1)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tag = tif.pages[0].tags["TileOffsets"]
        tag.overwrite([*tag.value[:-1], path.stat().st_size + 999])
    with open_slide(path) as slide, pytest.raises(InputError, match=r"truncated or damaged.*Copy or export the slide"):
        slide.probe(0.25)
    handle = OmeTiff(path)
    with pytest.raises(InputError, match=r"truncated or damaged: level 0 cannot be read at pixel \(600, 500\)"):
        handle.read_region((600, 500), 0, (90, 20))
    handle.close()
