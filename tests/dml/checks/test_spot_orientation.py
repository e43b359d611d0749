"""A mirrored, rotated or shifted table of spots is told from the right one by tissue, and by library size."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dml.checks.spot_orientation import TissueMap, empty_places, find_orientation, rank_correlation
from tests.spatial_sections import HEIGHT, STEP_PX, WIDTH, make_section, paint

STEPS = np.array([[STEP_PX, 0.0], [0.0, STEP_PX]])
W, H = float(WIDTH), float(HEIGHT)
WRONG = {
    "mirrored left to right (x = 760 - x, y = y)": lambda x, y: (W - x, y),
    "mirrored top to bottom (x = x, y = 600 - y)": lambda x, y: (x, H - y),
    "rotated by 180 degrees (x = 760 - x, y = 600 - y)": lambda x, y: (W - x, H - y),
    "with x and y exchanged (x = y, y = x)": lambda x, y: (y, x),
    "rotated by 90 degrees counterclockwise (x = y, y = 600 - x)": lambda x, y: (H - y, x),
    "rotated by 90 degrees clockwise (x = 760 - y, y = x)": lambda x, y: (y, W - x),
    "with x and y exchanged and rotated by 180 degrees (x = 760 - y, y = 600 - x)": lambda x, y: (H - y, W - x),
}
"""What mends a table, and what was done to it."""


def tissue() -> TissueMap:
    pixels = paint().astype(float)
    density = -np.log10(pixels / 255).mean(axis=-1)
    return TissueMap((density > 0.06).astype(float), density, 1.0, (W, H))


def spots(full: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    section = make_section(full=full)
    return section.spots[["pixel_x", "pixel_y"]].to_numpy(), section.counts.sum(axis=1).astype(float)


def test_a_right_table_is_left_alone() -> None:
    points, sizes = spots()
    result = find_orientation(points, sizes, STEPS, tissue())
    assert (result.on_tissue, result.empty_on_tissue, result.score) == (1, 0, 1)
    assert result.rank > 0.5
    assert (result.better, result.shifted) == ("", False)


@pytest.mark.parametrize("remedy", WRONG)
def test_each_symmetry_is_told_with_the_transform_that_mends_it(remedy: str) -> None:
    points, sizes = spots()
    wrong = np.column_stack(WRONG[remedy](*points.T))
    swapped = STEPS[::-1] if "90" in remedy or "exchanged" in remedy else STEPS
    result = find_orientation(wrong, sizes, swapped, tissue())
    assert result.score < 0.7
    assert result.best_score == pytest.approx(1)
    assert result.better == remedy


def test_a_table_mirrored_within_its_array_is_told_with_its_own_formula() -> None:
    points, sizes = spots()
    wrong = np.column_stack([800 - 3 * STEP_PX - points[:, 0], points[:, 1]])
    result = find_orientation(wrong, sizes, STEPS, tissue())
    assert result.better == "mirrored left to right (x = 680 - x, y = y)"


def test_a_shifted_table_is_told_as_shifted() -> None:
    points, sizes = spots()
    result = find_orientation(points + np.array([3 * STEP_PX, -STEP_PX]), sizes, STEPS, tissue())
    assert result.shifted
    assert result.better == "shifted (x = x - 120, y = y + 40)"


def test_tissue_that_was_not_captured_does_not_condemn_a_table() -> None:
    """Half of the tissue has no spots: other positions fit as well, but the library sizes fit only here."""
    points, sizes = spots()
    lower = points[:, 1] > 300
    assert find_orientation(points[lower], sizes[lower], STEPS, tissue()).better == ""


@pytest.mark.parametrize("remedy", list(WRONG)[:3])
def test_a_full_array_is_oriented_by_library_size(remedy: str) -> None:
    whole, points = TissueMap(np.ones((HEIGHT, WIDTH)), tissue().density, 1.0, (W, H)), spots(full=True)[0]
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(20, WIDTH, STEP_PX), np.arange(20, HEIGHT, STEP_PX)))
    points = np.column_stack([x, y]).astype(float)
    sizes = whole.sample(whole.density, points) + np.random.default_rng(0).normal(0, 0.02, len(points))
    assert len(empty_places(points, STEPS, (W, H))) == 0
    right = find_orientation(points, sizes, STEPS, whole)
    assert right.better == ""
    assert right.score == pytest.approx(right.rank)
    wrong = find_orientation(np.column_stack(WRONG[remedy](*points.T)), sizes, STEPS, whole)
    assert wrong.better == remedy


def test_a_full_array_of_even_tissue_says_nothing() -> None:
    even = TissueMap(np.ones((HEIGHT, WIDTH)), np.ones((HEIGHT, WIDTH)), 1.0, (W, H))
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(20, WIDTH, STEP_PX), np.arange(20, HEIGHT, STEP_PX)))
    points = np.column_stack([x, y]).astype(float)
    result = find_orientation(points, np.arange(len(points), dtype=float), STEPS, even)
    assert np.isnan(result.rank)
    assert result.better == ""


def test_empty_places_are_the_array_without_its_spots() -> None:
    points = np.array([[20.0, 20], [60, 20], [100, 20], [20, 60], [100, 60], [20, 100], [60, 100], [100, 100]])
    places = empty_places(points, STEPS, (130, 130))
    assert places.tolist() == [[60, 60]], "one between the spots; those around them are outside the slide"


def test_library_sizes_of_another_section_do_not_follow_the_stain() -> None:
    points, sizes = spots()
    assert rank_correlation(sizes, points, tissue()) > 0.5
    assert abs(rank_correlation(np.random.default_rng(0).permutation(sizes), points, tissue())) < 0.25
