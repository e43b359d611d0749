"""The tissue mask on what real archives contain: borders, ink, blur, tinted lamps, empty glass, fluorescence."""

from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image as PictureFile
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.phantoms import (
    ALCIAN_BLUE,
    COLLAGEN_BLUE,
    PENS,
    WHOLE,
    Phantom,
    haematoxylin_eosin,
    overlap,
    paint,
    single_stain,
    tissue_phantoms,
)
from dml.slides.tissue import find_tissue
from tests.painted import GLASS, NUCLEUS, TISSUE, tissue_pixels

Image = NDArray[np.uint8]
INKS = {"green": (20, 140, 60), "blue": (40, 90, 200), "black": (35, 35, 40), "pale green": (150, 215, 160)}


def tissue_mask(pixels: Image) -> NDArray[np.bool_]:
    return find_tissue(pixels).mask


@pytest.fixture(scope="module")
def phantoms() -> dict[str, Phantom]:
    return tissue_phantoms()


@pytest.fixture
def thumbnail() -> Image:
    """Half of each side is tissue: an ellipse, no stroke of nuclei larger than at 4 microns per pixel."""
    return thin(tissue_pixels(400, 300, seed=1))


def thin(pixels: Image) -> Image:
    return ndimage.uniform_filter(pixels, size=(3, 3, 1))


def ellipse(height: int = 300, width: int = 400, cover: float = 0.6) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width]
    return np.asarray(((x / width - 0.5) / (cover / 2)) ** 2 + ((y / height - 0.5) / (cover / 2)) ** 2 < 1)


def test_tissue_on_white_glass(thumbnail: Image) -> None:
    assert overlap(tissue_mask(thumbnail), ellipse()) > 0.95


@pytest.mark.parametrize("sigma", [2, 6])
def test_out_of_focus_tissue_stays(thumbnail: Image, sigma: float) -> None:
    blurred = ndimage.gaussian_filter(thumbnail, (sigma, sigma, 0))
    assert overlap(tissue_mask(blurred), ellipse()) > 0.85


@pytest.mark.parametrize("width", [10, 90])
def test_black_borders_are_not_tissue(thumbnail: Image, width: int) -> None:
    bordered = np.pad(thumbnail, ((width, width), (width, width), (0, 0)))
    mask = tissue_mask(bordered)
    assert overlap(mask[width:-width, width:-width], ellipse()) > 0.95
    assert mask.sum() == mask[width:-width, width:-width].sum()


@pytest.mark.parametrize("ink", INKS)
def test_pen_marks_are_not_tissue(thumbnail: Image, ink: str) -> None:
    marked = thumbnail.copy()
    stroke = np.zeros(marked.shape[:2], bool)
    stroke[10:28, 20:380] = True  # on glass
    stroke[150:168, 20:380] = True  # across the tissue
    marked[stroke] = INKS[ink]
    mask = tissue_mask(thin(marked))
    inner = ndimage.binary_erosion(stroke, iterations=2)
    assert mask[inner].mean() < 0.02
    away = ~ndimage.binary_dilation(stroke, iterations=6)
    assert overlap(mask & away, ellipse() & away) > 0.93


def test_dense_haematoxylin_is_not_ink() -> None:
    pixels = np.full((300, 400, 3), GLASS, np.uint8)
    pixels[ellipse()] = NUCLEUS
    assert overlap(tissue_mask(pixels), ellipse()) > 0.95


def test_pale_tissue_without_nuclei_is_tissue() -> None:
    pixels = np.full((300, 400, 3), GLASS, np.int16)
    pixels[ellipse()] = (238, 222, 234)
    pixels += np.random.default_rng(0).integers(-3, 4, pixels.shape, dtype=np.int16)
    assert overlap(tissue_mask(pixels.astype(np.uint8)), ellipse()) > 0.9


def test_tissue_that_fills_the_picture_is_whole() -> None:
    pixels = thin(tissue_pixels(400, 300, cover=4.0))
    assert tissue_mask(pixels).mean() > 0.95


@pytest.mark.parametrize(
    "glass",
    [GLASS, (255, 255, 255), (245, 238, 222), (222, 222, 224), (228, 236, 246), (215, 205, 170), (240, 215, 225)],
)
def test_empty_glass_has_no_tissue(glass: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(-4, 5, (300, 400, 3), dtype=np.int16)
    pixels = np.clip(np.full((300, 400, 3), glass, np.int16) + noise, 0, 255).astype(np.uint8)
    assert not tissue_mask(pixels).any()


def test_tissue_under_a_tinted_lamp() -> None:
    tinted = (thin(tissue_pixels(400, 300)) * np.array([1.0, 0.97, 0.9])).astype(np.uint8)
    assert overlap(tissue_mask(tinted), ellipse()) > 0.95


@pytest.mark.parametrize("colour", [(20, 30, 220), (30, 230, 40), (230, 30, 20), (160, 40, 200), (200, 200, 210)])
def test_fluorescence_has_no_tissue(colour: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 12, (300, 400, 3)).astype(np.float64)
    cells = ndimage.gaussian_filter((rng.random((300, 400)) > 0.99).astype(float), 2) * ellipse()
    pixels += (cells / cells.max())[..., None] * np.array(colour)
    assert not tissue_mask(np.clip(pixels, 0, 255).astype(np.uint8)).any()


def test_all_black_and_tiny_pictures() -> None:
    assert not tissue_mask(np.zeros((50, 60, 3), np.uint8)).any()
    assert tissue_mask(np.full((1, 1, 3), TISSUE, np.uint8)).shape == (1, 1)


def test_dust_is_not_tissue() -> None:
    pixels = np.full((300, 400, 3), GLASS, np.uint8)
    pixels[20:25, 30:35] = TISSUE
    assert not tissue_mask(pixels).any()


def test_phantoms_are_masked_right(phantoms: dict[str, Phantom]) -> None:
    scores = {name: overlap(tissue_mask(phantom.pixels), phantom.tissue) for name, phantom in phantoms.items()}
    low = {name: round(score, 3) for name, score in scores.items() if score < 0.9}
    assert not low
    assert np.mean(list(scores.values())) > 0.97


def test_strong_stain_does_not_hide_a_pale_section(phantoms: dict[str, Phantom]) -> None:
    phantom = phantoms["dark and pale section"]
    mask, right = tissue_mask(phantom.pixels), np.zeros_like(phantom.tissue)
    right[:, right.shape[1] // 2 :] = True
    assert overlap(mask & right, phantom.tissue & right) > 0.97


@pytest.mark.parametrize("colour", PENS)
def test_ink_is_reported_with_its_colour_and_share(phantoms: dict[str, Phantom], colour: str) -> None:
    tissue = find_tissue(phantoms[f"{colour} ink"].pixels)
    stroke, whole = (110 - 40) * 1400 / 16, phantoms[f"{colour} ink"].tissue.sum()
    left_out = sum(tissue.ink.values())
    if colour != "black":  # its rim is grey, not stain
        rim = 0.025 if colour == "brown" else 0.02  # the pale rim of brown ink may be stain
        np.testing.assert_allclose(left_out, stroke / (stroke + whole), atol=rim)
    assert max(tissue.ink, key=lambda name: tissue.ink[name]) == colour
    assert not tissue.special_stain


SHADES = {"red": [(255, 0, 0), (170, 20, 30), (230, 80, 40), (200, 20, 60)], "green": [(0, 160, 80), (120, 220, 120)],
          "blue": [(30, 60, 180), (80, 160, 230), (20, 25, 90)],
          "brown": [(240, 140, 30), (250, 230, 40), (120, 70, 20)],
          "purple": [(160, 40, 200), (220, 30, 140), (235, 60, 170)]}  # fmt: skip


@pytest.mark.parametrize(("colour", "shade"), [(name, shade) for name, shades in SHADES.items() for shade in shades])
def test_shades_of_pens(thumbnail: Image, colour: str, shade: tuple[int, int, int]) -> None:
    marked = thumbnail.copy()
    marked[10:28, 20:380] = shade
    tissue = find_tissue(marked)
    assert not tissue.mask[12:26, 22:378].any()
    assert max(tissue.ink, key=lambda name: tissue.ink[name]) == colour


def test_haematoxylin_as_blue_as_a_pen_is_tissue_where_it_is_grainy() -> None:
    """As on real sections stained long: hues of 224 to 238 degrees, of nuclei and of what lies between them."""
    rng = np.random.default_rng(0)
    nuclei = ndimage.gaussian_filter(rng.random((300, 400)), 1.2) > 0.52
    share = ndimage.gaussian_filter(nuclei.astype(float), 0.7)[..., None]
    pixels = np.full((300, 400, 3), 245.0)
    stained = share * np.array([60, 75, 150]) + (1 - share) * np.array([170, 180, 225])
    pixels[ellipse()] = stained[ellipse()]
    tissue = find_tissue(pixels.astype(np.uint8))
    assert overlap(tissue.mask, ellipse()) > 0.95
    assert tissue.pens == ""


@pytest.mark.data
@pytest.mark.parametrize("section", ["C2", "C6"])
def test_a_bluish_section_is_not_ink(shared_data: Path, section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the spots that are on tissue by their own table, nearly all are in the mask."""
    monkeypatch.setattr(PictureFile, "MAX_IMAGE_PIXELS", None)
    with PictureFile.open(shared_data / f"her2st/images/{section}.jpg") as picture:
        thumbnail = np.asarray(picture.reduce(12))  # 8.3 microns per pixel
    spots = pd.read_csv(shared_data / f"her2st/spots/{section}_selection.tsv", sep="\t")
    tissue = find_tissue(thumbnail)
    x, y = ((spots[name] / 12).astype(int).clip(0, side - 1)
            for name, side in (("pixel_x", thumbnail.shape[1]), ("pixel_y", thumbnail.shape[0])))  # fmt: skip
    assert ndimage.uniform_filter(tissue.mask.astype(float), 13)[y, x].mean() > 0.9
    assert tissue.pens == ""


def test_what_was_left_out_is_noted_with_the_setting(phantoms: dict[str, Phantom]) -> None:
    notes = find_tissue(phantoms["green ink"].pixels).notes
    assert len(notes) == 1
    assert "12% of the stained area was left out (12% as green pen ink" in notes[0]
    assert "tiles.remove_ink: false" in notes[0]
    assert find_tissue(phantoms["faded to 1.00"].pixels).notes == ()


def test_brown_stain_is_noted(phantoms: dict[str, Phantom]) -> None:
    assert "immunohistochemistry" in find_tissue(phantoms["IHC, light counterstain"].pixels).notes[0]
    assert find_tissue(phantoms["IHC, negative"].pixels).brown == 0


@pytest.mark.parametrize("vector", [COLLAGEN_BLUE, ALCIAN_BLUE])
def test_a_blue_special_stain_is_told_from_ink_by_its_grain(vector: tuple[float, float, float]) -> None:
    phantom = paint(WHOLE, single_stain(WHOLE, vector))
    assert find_tissue(phantom.pixels).special_stain
    assert overlap(find_tissue(phantom.pixels, remove_ink=False).mask, phantom.tissue) > 0.97


def test_glass_of_uneven_tint_is_not_tissue() -> None:
    def tint(pixels: NDArray[np.float64]) -> None:
        pixels[..., 2] *= np.linspace(1, 0.95, pixels.shape[1])

    phantom = paint(WHOLE, haematoxylin_eosin(WHOLE), over=tint)
    assert overlap(tissue_mask(phantom.pixels), phantom.tissue) > 0.97
