"""The tissue mask on what real archives contain: borders, ink, blur, tinted lamps, empty glass, fluorescence."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from dml.slides.tissue import tissue_mask
from tests.painted import GLASS, NUCLEUS, TISSUE, tissue_pixels

Image = NDArray[np.uint8]
INKS = {"green": (20, 140, 60), "blue": (40, 90, 200), "black": (35, 35, 40), "pale green": (150, 215, 160)}


@pytest.fixture
def thumbnail() -> Image:
    """Half of each side is tissue: an ellipse, no stroke of nuclei larger than at 4 microns per pixel."""
    return thin(tissue_pixels(400, 300, seed=1))


def thin(pixels: Image) -> Image:
    return ndimage.uniform_filter(pixels, size=(3, 3, 1))


def ellipse(height: int = 300, width: int = 400, cover: float = 0.6) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width]
    return np.asarray(((x / width - 0.5) / (cover / 2)) ** 2 + ((y / height - 0.5) / (cover / 2)) ** 2 < 1)


def agreement(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def test_tissue_on_white_glass(thumbnail: Image) -> None:
    assert agreement(tissue_mask(thumbnail), ellipse()) > 0.95


@pytest.mark.parametrize("sigma", [2, 6])
def test_out_of_focus_tissue_stays(thumbnail: Image, sigma: float) -> None:
    blurred = ndimage.gaussian_filter(thumbnail, (sigma, sigma, 0))
    assert agreement(tissue_mask(blurred), ellipse()) > 0.85


@pytest.mark.parametrize("width", [10, 90])
def test_black_borders_are_not_tissue(thumbnail: Image, width: int) -> None:
    bordered = np.pad(thumbnail, ((width, width), (width, width), (0, 0)))
    mask = tissue_mask(bordered)
    assert agreement(mask[width:-width, width:-width], ellipse()) > 0.95
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
    assert agreement(mask & away, ellipse() & away) > 0.93


def test_dense_haematoxylin_is_not_ink() -> None:
    pixels = np.full((300, 400, 3), GLASS, np.uint8)
    pixels[ellipse()] = NUCLEUS
    assert agreement(tissue_mask(pixels), ellipse()) > 0.95


def test_pale_tissue_is_found() -> None:
    pixels = np.full((300, 400, 3), GLASS, np.int16)
    pixels[ellipse()] = (238, 222, 234)
    pixels += np.random.default_rng(0).integers(-3, 4, pixels.shape, dtype=np.int16)
    assert agreement(tissue_mask(pixels.astype(np.uint8)), ellipse()) > 0.9


def test_tissue_that_fills_the_picture_is_kept_whole() -> None:
    pixels = thin(tissue_pixels(400, 300, cover=4.0))
    assert tissue_mask(pixels).mean() > 0.95


@pytest.mark.parametrize("glass", [GLASS, (255, 255, 255), (245, 238, 222), (222, 222, 224), (228, 236, 246)])
def test_empty_glass_has_no_tissue(glass: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(-4, 5, (300, 400, 3), dtype=np.int16)
    pixels = np.clip(np.full((300, 400, 3), glass, np.int16) + noise, 0, 255).astype(np.uint8)
    assert not tissue_mask(pixels).any()


def test_tissue_under_a_tinted_lamp() -> None:
    tinted = (thin(tissue_pixels(400, 300)) * np.array([1.0, 0.97, 0.9])).astype(np.uint8)
    assert agreement(tissue_mask(tinted), ellipse()) > 0.95


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
