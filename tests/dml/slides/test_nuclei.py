"""The size of nuclei as a check of the stated resolution: told from painted discs, noted or refused, or not told."""

from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image as PictureFile
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from dml.config.params import Tiles
from dml.core.errors import InputError
from dml.slides.nuclei import MIN_NUCLEI, PLAUSIBLE_UM, measure_nuclei, median_diameter
from dml.slides.reader import open_slide
from dml.slides.tile_slide import SlideOptions, tile_file, tile_slide
from tests.painted import write_slide

TILES = Tiles(mpps=(0.5,), tile_px=256)


def discs(side: int, diameter_px: float, spacing_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """Haematoxylin discs in eosin, at jittered places."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((side, side), bool)
    at = np.arange(spacing_px // 2, side - spacing_px // 2, spacing_px)
    y, x = np.meshgrid(at, at, indexing="ij")
    jitter = rng.integers(-spacing_px // 8, spacing_px // 8 + 1, (2, *y.shape))
    centres[y + jitter[0], x + jitter[1]] = True
    nuclei = ndimage.distance_transform_edt(~centres) <= diameter_px / 2
    pixels = np.where(nuclei[..., None], (85, 50, 125), (228, 165, 200)) + rng.normal(0, 4, (side, side, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("mpp", "microns"), [(0.5, 6.0), (0.5, 9.0), (0.25, 7.0), (0.8, 10.0)])
def test_discs_have_their_diameter(mpp: float, microns: float) -> None:
    tile = discs(256, microns / mpp, spacing_px=round(1.9 * microns / mpp))
    assert median_diameter([tile] * 6, mpp) == pytest.approx(microns, rel=0.15)


def test_without_nuclei_nothing_is_told() -> None:
    assert median_diameter([np.full((256, 256, 3), 240, np.uint8)], 0.5) is None
    few = discs(256, 14, spacing_px=100)
    assert median_diameter([few], 0.5) is None, f"fewer than {MIN_NUCLEI}"


def slide_with(path: Path, microns: float, mpp: float = 0.5) -> Path:
    diameter = microns / mpp
    picture = np.full((1536, 1536, 3), 245, np.uint8)
    picture[128:-128, 128:-128] = discs(1280, diameter, spacing_px=round(1.9 * diameter))
    return write_slide(path, picture)


def test_nuclei_of_double_size_are_noted_and_of_fourfold_refused(tmp_path: Path) -> None:
    assert tile_file(slide_with(tmp_path / "right.tif", 7.0), TILES).facts["notes"] == ""
    note = tile_file(slide_with(tmp_path / "double.tif", 14.0), TILES).facts["notes"]
    assert note.startswith("at 0.5 microns per pixel (file) nuclei are 1")
    assert note.endswith("is the resolution right?")
    fourfold = slide_with(tmp_path / "fourfold.tif", 28.0)
    with pytest.raises(InputError, match=r"fourfold\.tif: at 0\.5 .* nuclei are 2\d.* at about 0\.1\d they would be 7"):
        tile_file(fourfold, TILES)


def test_the_word_of_the_cohort_counts_more(tmp_path: Path) -> None:
    fourfold = slide_with(tmp_path / "fourfold.tif", 28.0)
    assert tile_file(fourfold, TILES, SlideOptions(mpp_from="file")).facts["notes"] == ""


def test_a_real_slide_is_plausible(shared_data: Path) -> None:
    with open_slide(shared_data / "slides/cmu-1-small-region.svs") as slide:
        grids = tile_slide(slide, TILES).grids
        diameter = measure_nuclei(slide, next(iter(grids.values())))
    assert diameter is not None
    assert PLAUSIBLE_UM[0] < diameter < PLAUSIBLE_UM[1]


@pytest.mark.data
@pytest.mark.parametrize("section", ["C2", "C5"])
def test_measured_sections_are_plausible_and_a_fourfold_resolution_is_not(
    shared_data: Path, section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PictureFile, "MAX_IMAGE_PIXELS", None)
    with PictureFile.open(shared_data / f"her2st/images/{section}.jpg") as picture:
        pixels = np.asarray(picture)
    spots = pd.read_csv(shared_data / f"her2st/spots/{section}_selection.tsv", sep="\t").iloc[::12]
    tiles = [pixels[int(y) - 128 : int(y) + 128, int(x) - 128 : int(x) + 128] for x, y in
             zip(spots["pixel_x"], spots["pixel_y"], strict=True)]  # fmt: skip
    whole = [tile for tile in tiles if tile.shape == (256, 256, 3)]
    diameter, wrong = median_diameter(whole, 0.69), median_diameter(whole, 4 * 0.69)
    assert diameter is not None
    assert PLAUSIBLE_UM[0] < diameter < PLAUSIBLE_UM[1]
    assert wrong is not None
    assert wrong > 1.5 * PLAUSIBLE_UM[1]
