"""Painted slides show the planted factors, measured in the pixels."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import label, uniform_filter

from dml.demo.anatomy import draw_content
from dml.demo.fields import CELL, scatter_points, upsample
from dml.demo.paint import SlidePlan, paint
from dml.demo.slide_file import build_pyramid, downsample, fingerprint

PLAN = SlidePlan(seed=(1, 2), site=(1, 7, 1), tumor=0.0, tme=0.0, slide_px=768, mpp=0.5, tissue=0.5)


def tissue_mask(image: np.ndarray) -> np.ndarray:
    return uniform_filter(image.astype(np.float32), size=(9, 9, 1)).min(axis=2) < 225


def dark_share(image: np.ndarray) -> float:
    """Share of the tissue that haematoxylin makes dark in the red channel (eosin hardly absorbs there)."""
    return float((image[..., 0] < 150)[tissue_mask(image)].mean())


def small_dark_spots(image: np.ndarray) -> float:
    """Compact, almost black spots of a lymphocyte's size, per million pixels of tissue."""
    spots, _ = label(image[..., 0] < 115)
    sizes = np.bincount(spots.ravel())[1:]
    return 1e6 * float(((sizes > 60) & (sizes < 190)).sum()) / tissue_mask(image).sum()


@pytest.fixture(scope="module")
def pictures() -> dict[tuple[float, float], np.ndarray]:
    corners = [(t, m) for t in (-1.3, 1.3) for m in (-1.3, 1.3)]
    return {(t, m): paint(replace(PLAN, tumor=t, tme=m)) for t, m in corners}


def test_tissue_covers_what_was_asked(
    pictures: dict[tuple[float, float], np.ndarray],
) -> None:
    for image in pictures.values():
        tissue = tissue_mask(image)
        assert 0.38 < tissue.mean() < 0.62
        border = np.concatenate([tissue[0], tissue[-1], tissue[:, 0], tissue[:, -1]])
        assert border.mean() < 0.15


def test_background_is_bright_and_tissue_is_pink_to_purple(pictures: dict[tuple[float, float], np.ndarray]) -> None:
    for image in pictures.values():
        tissue = tissue_mask(image)
        red, green, blue = (float(np.median(image[..., k][tissue])) for k in range(3))
        assert green < red
        assert green < blue
        assert np.median(image[~tissue]) > 235


@pytest.mark.parametrize("tme", [-1.3, 1.3])
def test_the_tumor_factor_paints_more_nuclei(pictures: dict[tuple[float, float], np.ndarray], tme: float) -> None:
    assert dark_share(pictures[1.3, tme]) > 2 * dark_share(pictures[-1.3, tme])


def test_the_tme_factor_paints_lymphocytes_and_hardly_more_of_what_the_tumor_paints(
    pictures: dict[tuple[float, float], np.ndarray],
) -> None:
    assert small_dark_spots(pictures[-1.3, 1.3]) > 3 * small_dark_spots(pictures[-1.3, -1.3])
    by_tumor = dark_share(pictures[1.3, -1.3]) - dark_share(pictures[-1.3, -1.3])
    by_tme = dark_share(pictures[-1.3, 1.3]) - dark_share(pictures[-1.3, -1.3])
    assert by_tme < 0.6 * by_tumor


def test_content_rises_with_its_own_factor_and_ignores_the_other() -> None:
    low, tumor, tme = (draw_content(np.random.default_rng(0), t, m) for t, m in ((-1, -1), (1, -1), (-1, 1)))
    for name in ("nuclei", "atypia", "mitoses"):
        assert getattr(tumor, name) > getattr(low, name) == getattr(tme, name)
    for name in ("lymphocytes", "microglia", "cuffs", "vessels", "vessel_wall", "necrosis"):
        assert getattr(tme, name) > getattr(low, name) == getattr(tumor, name)


def test_sites_differ_in_colour_not_in_structure() -> None:
    first, second = (paint(replace(PLAN, site=(1, 7, site))) for site in (1, 2))
    assert first.shape == second.shape
    pixels = [image[tissue_mask(first)].astype(float) for image in (first, second)]
    assert np.abs(pixels[0].mean(axis=0) - pixels[1].mean(axis=0)).max() > 3
    assert np.corrcoef(pixels[0][:, 1], pixels[1][:, 1])[0, 1] > 0.9


def test_equal_plans_paint_equal_pixels_and_the_fingerprint_tells_plans_apart() -> None:
    np.testing.assert_array_equal(paint(PLAN), paint(PLAN))
    assert fingerprint(PLAN) == fingerprint(replace(PLAN))
    assert fingerprint(PLAN) != fingerprint(replace(PLAN, tme=0.1))


def test_upsampling_interpolates_between_cells() -> None:
    cells = np.array([[0.0, 8.0, 16.0], [8.0, 16.0, 24.0], [16.0, 24.0, 32.0]], dtype=np.float32)
    canvas = upsample(cells, slice(0, 2 * CELL), 2 * CELL)
    y, x = np.mgrid[: 2 * CELL, : 2 * CELL]
    np.testing.assert_allclose(canvas, (y + x) * 8 / CELL, atol=1e-5)
    np.testing.assert_array_equal(upsample(cells, slice(5, 11), 2 * CELL), canvas[5:11])


def test_scattered_points_lie_where_the_density_is_and_keep_their_distance(rng: np.random.Generator) -> None:
    density = np.zeros((40, 40), dtype=np.float32)
    density[10:20, 5:30] = 1
    points = scatter_points(rng, density, expected=200, min_distance_px=6)
    assert 90 < len(points) <= 200
    cells = (points // CELL).astype(int)
    assert (density[cells[:, 0], cells[:, 1]] == 1).all()
    distance = np.linalg.norm(points[:, None] - points, axis=2) + 99 * np.eye(len(points))
    assert distance.min() >= 6
    assert scatter_points(rng, density * 0, expected=50, min_distance_px=6).shape == (0, 2)


def test_halving_drops_an_odd_edge_and_rounds_means() -> None:
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    half = downsample(image)
    assert half.shape == (2, 3, 3)
    assert half[0, 0, 0] == round((0 + 3 + 21 + 24) / 4)
    assert len(build_pyramid(np.zeros((2048, 2400, 3), np.uint8))) == 3
    assert len(build_pyramid(np.zeros((2500, 2600, 3), np.uint8))) == 4
