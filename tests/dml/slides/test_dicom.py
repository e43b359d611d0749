"""A DICOM whole-slide series: its pixels, resolution and tiles are those of the picture that was written."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

from dml.config.params import Tiles
from dml.core.errors import InputError
from dml.slides.reader import open_slide
from dml.slides.tile_slide import tile_file
from tests.painted import tissue_pixels, write_slide

SIDE, TILE, MPP = 512, 128, 0.5
PIXELS = tissue_pixels(SIDE, SIDE, seed=5)


def write_series(folder: Path, pixels: NDArray[np.uint8], mpp: float, levels: int = 2) -> Path:
    """Write a series as scanners do, one instance a level, in tiles of JPEG; return its first file."""
    folder.mkdir()
    series = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    paths = []
    for level in range(levels):
        step = 2**level
        height, width = (n // step for n in pixels.shape[:2])
        reduced = pixels.reshape(height, step, width, step, 3).mean(axis=(1, 3)).round().astype(np.uint8)
        path = folder / f"level-{level}.dcm"
        dataset = instance(path, reduced, mpp * step, level, series)
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths[0]


def instance(path: Path, pixels: NDArray[np.uint8], mpp: float, level: int, series: dict[str, str]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    one = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    for name, uid in series.items():
        setattr(one, name, uid)
    height, width = pixels.shape[:2]
    one.Modality, one.SeriesNumber, one.InstanceNumber = "SM", 1, level + 1
    one.ImageType = [
        "ORIGINAL" if level == 0 else "DERIVED",
        "PRIMARY",
        "VOLUME",
        "NONE" if level == 0 else "RESAMPLED",
    ]
    one.Rows = one.Columns = TILE
    one.TotalPixelMatrixRows, one.TotalPixelMatrixColumns, one.TotalPixelMatrixFocalPlanes = height, width, 1
    one.NumberOfFrames = (height // TILE) * (width // TILE)
    one.DimensionOrganizationType = "TILED_FULL"
    one.SamplesPerPixel, one.PhotometricInterpretation, one.PlanarConfiguration = 3, "YBR_FULL_422", 0
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 8, 8, 7, 0
    one.ImagedVolumeWidth, one.ImagedVolumeHeight, one.ImagedVolumeDepth = width * mpp / 1e3, height * mpp / 1e3, 0.001
    measures, shared, optics = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1e3, mpp / 1e3], 0.001
    shared.PixelMeasuresSequence = Sequence([measures])
    one.SharedFunctionalGroupsSequence = Sequence([shared])
    optics.ObjectiveLensPower = 20.0
    one.OpticalPathSequence = Sequence([optics])
    one.PixelData = encapsulate([jpeg(pixels[y : y + TILE, x : x + TILE])
                                 for y in range(0, height, TILE) for x in range(0, width, TILE)])  # fmt: skip
    return one


def jpeg(tile: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(tile).save(file, "JPEG", quality=95)
    return file.getvalue()


def test_pixels_and_resolution_of_a_series(tmp_path: Path) -> None:
    with open_slide(write_series(tmp_path / "S1", PIXELS, MPP)) as slide:
        assert (slide.vendor, slide.dimensions) == ("dicom", (SIDE, SIDE))
        assert slide.mpp == pytest.approx(MPP)
        tile = slide.read_tile(128, 256, 128, MPP)
    error = np.abs(tile.astype(int) - PIXELS[256:384, 128:256])
    assert error.mean() < 4, "as far as JPEG is exact"


def test_a_series_is_tiled_like_the_same_picture(tmp_path: Path) -> None:
    tiles = Tiles(mpps=(0.5, 1.0), tile_px=64)
    tiled = tile_file(write_series(tmp_path / "S1", PIXELS, MPP), tiles)
    expected = tile_file(write_slide(tmp_path / "same.tif", PIXELS), tiles)
    assert tiled.facts["mpp_source"] == "file"
    for mpp, grid in expected.grids.items():
        assert np.array_equal(tiled.grids[mpp].coords_px, grid.coords_px)


def test_a_cut_instance_is_refused_by_name(tmp_path: Path) -> None:
    path = write_series(tmp_path / "S1", PIXELS, MPP, levels=1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(InputError, match=r"level-0\.dcm"):
        tile_file(path, Tiles(mpps=(0.5,), tile_px=64))


def test_another_kind_of_dicom_is_refused_by_name(tmp_path: Path) -> None:
    path = write_series(tmp_path / "S1", PIXELS, MPP, levels=1)
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"  # computed tomography
    dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(InputError, match=r"level-0\.dcm"):
        open_slide(path)
