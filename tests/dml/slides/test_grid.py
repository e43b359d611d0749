"""Grids of several resolutions nest exactly, select what is tissue, and thin out evenly."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dml.config.params import Tiles
from dml.core.types import Mpp, TileGrid
from dml.slides.grid import corners_px, largest_share, tile_grids


@dataclass
class Glass:
    """As much of a slide as a grid needs."""

    dimensions: tuple[int, int]
    mpp: Mpp


def blob(height: int = 90, width: int = 120) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width]
    return np.asarray(((x - 55) / 45) ** 2 + ((y - 40) / 33) ** 2 + 0.2 * np.sin(x / 5) < 1)


def cells(grid: TileGrid) -> set[tuple[int, int]]:
    return {(int(x), int(y)) for x, y in np.rint(grid.coords_um / grid.tile_um - 0.5)}


def assert_nested(grids: dict[float, TileGrid]) -> None:
    """Every fine tile lies in one coarse tile, on its lattice, and every coarse tile has a child."""
    for fine, coarse in pairwise(sorted(grids)):
        side, half = grids[coarse].tile_um, grids[fine].tile_um / 2
        corners = grids[coarse].coords_um - side / 2
        inside = grids[fine].coords_um[:, None] - corners  # n m 2
        contained = ((inside > half - 1e-6) & (inside < side - half + 1e-6)).all(axis=2)
        assert (contained.sum(axis=1) == 1).all()
        assert contained.any(axis=0).all()
        steps = (inside[contained] - half) / grids[fine].tile_um
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)


def test_a_coarse_tile_is_the_union_of_its_four_children() -> None:
    grids = tile_grids(Glass((8192, 6144), 0.5), np.ones((60, 80), bool), Tiles(mpps=(0.5, 1.0), min_tissue=1.0))
    fine, coarse = grids[0.5], grids[1.0]
    assert len(fine.coords_px) == 4 * len(coarse.coords_px) > 0
    for x, y in coarse.coords_px:
        inside = ((fine.coords_px >= (x, y)) & (fine.coords_px < (x + 512, y + 512))).all(axis=1)
        children = {tuple(corner) for corner in fine.coords_px[inside]}
        assert children == {(x, y), (x + 256, y), (x, y + 256), (x + 256, y + 256)}


def test_only_children_with_tissue_are_selected() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:, :3] = True  # of the single coarse tile: left half full, right half a half of a half
    grids = tile_grids(Glass((512, 512), 0.5), mask, Tiles(mpps=(0.5, 1.0), min_tissue=0.3))
    assert cells(grids[1.0]) == {(0, 0)}
    assert grids[1.0].tissue.tolist() == [0.375]
    assert cells(grids[0.5]) == {(0, 0), (0, 1)}
    assert grids[0.5].tissue.tolist() == [0.75, 0.75]


def test_a_coarse_tile_is_taken_for_its_fine_tiles_unless_more_tissue_is_required() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:, :1] = True  # a quarter of the coarse tiles on the left, half of the fine ones
    glass, half = Glass((1024, 1024), 0.5), {"mpps": (0.5, 1.0), "min_tissue": 0.5}
    grids = tile_grids(glass, mask, Tiles.model_validate(half))
    assert cells(grids[1.0]) == {(0, 0), (0, 1)}
    assert grids[1.0].tissue.tolist() == [0.25, 0.25]
    assert cells(grids[0.5]) == {(0, y) for y in range(4)}
    assert len(tile_grids(glass, mask, Tiles.model_validate({**half, "min_tissue_coarse": 0.3}))[0.5].coords_px) == 0


@pytest.mark.parametrize("mpps", [(0.5, 1.0), (0.5, 1.0, 2.0), (0.5, 1.5)])
def test_more_magnifications_lose_no_fine_tile(mpps: tuple[float, ...]) -> None:
    slide = Glass((4000, 3000), 0.5)
    alone = cells(tile_grids(slide, blob(), Tiles(mpps=(0.5,)))[0.5])
    assert cells(tile_grids(slide, blob(), Tiles(mpps=mpps))[0.5]) == alone


def test_the_largest_share_is_that_of_the_fullest_fine_tile() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:3, :2] = True  # in one of four fine tiles of 4 x 4 pixels
    assert largest_share(Glass((512, 512), 0.5), mask, Tiles(mpps=(0.5, 1.0))) == 6 / 16


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(300, 9000),
    height=st.integers(300, 9000),
    slide_mpp=st.sampled_from([0.2, 0.2325, 0.25, 0.499, 0.5]),
    mpps=st.sampled_from([(0.5,), (0.5, 1.0), (0.5, 1.0, 2.0), (0.5, 2.0), (0.5, 1.5)]),
    min_tissue=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    max_tiles=st.integers(1, 300),
    seed=st.integers(0, 99),
)
def test_grids_nest_for_any_slide(
    width: int, height: int, slide_mpp: float, mpps: tuple[float, ...], min_tissue: float, max_tiles: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((17, 23)) > 0.3
    tiles = Tiles(mpps=mpps, min_tissue=min_tissue, max_tiles=max_tiles)
    grids = dict(tile_grids(Glass((width, height), slide_mpp), mask, tiles))
    assert_nested(grids)
    for mpp, grid in grids.items():
        assert (grid.tissue >= (min_tissue if mpp == min(mpps) else 0)).all()
        assert np.abs(corners_px(grid) - grid.coords_px).max(initial=0) <= 0.5
        ratio = round(max(mpps) / mpp) ** 2
        assert len(grid.coords_px) <= max(max_tiles, ratio)


def test_the_grouping_with_most_tiles_is_taken() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True  # four fine tiles around the corner of four coarse ones
    grids = tile_grids(Glass((1024, 1024), 0.5), mask, Tiles(mpps=(0.5, 1.0), min_tissue=0.5))
    assert cells(grids[0.5]) == {(1, 1), (2, 1), (1, 2), (2, 2)}
    assert grids[1.0].coords_px.tolist() == [[256, 256]]
    assert grids[1.0].coords_um.tolist() == [[256.0, 256.0]]
    assert grids[1.0].tissue.tolist() == [1.0]


def test_of_equally_many_the_fewest_and_fullest_coarse_tiles() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:4, 2:6] = True  # four fine tiles at the upper edge, in columns 1 and 2
    grids = tile_grids(Glass((1024, 1024), 0.5), mask, Tiles(mpps=(0.5, 1.0), min_tissue=0.5))
    assert grids[1.0].coords_px.tolist() == [[256, 0]]
    mask[:] = True
    grids = tile_grids(Glass((1024, 1024), 0.5), mask, Tiles(mpps=(0.5, 1.0), min_tissue=0.5))
    assert grids[1.0].coords_px.tolist() == [[0, 0], [512, 0], [0, 512], [512, 512]]


def test_a_coarse_tile_may_start_before_the_slide() -> None:
    mask = np.ones((6, 6), bool)  # three by three fine tiles
    tiles = Tiles(mpps=(0.5, 1.0), min_tissue=0.5)
    grids = tile_grids(Glass((768, 768), 0.5), mask, tiles)
    assert (len(grids[0.5].coords_px), len(grids[1.0].coords_px)) == (9, 4)
    mask[:2, :2] = False  # three coarse tiles are enough if they start before the slide
    grids = tile_grids(Glass((768, 768), 0.5), mask, tiles)
    assert len(grids[0.5].coords_px) == 8
    assert grids[1.0].coords_px.tolist() == [[256, -256], [-256, 256], [256, 256]]


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(300, 5000),
    height=st.integers(300, 5000),
    mpps=st.sampled_from([(0.5,), (0.5, 1.0), (0.5, 1.0, 2.0), (0.5, 1.5)]),
    min_tissue=st.sampled_from([0.1, 0.5, 0.9]),
    seed=st.integers(0, 99),
)
def test_no_grouping_has_more(width: int, height: int, mpps: tuple[float, ...], min_tissue: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((19, 13)) > rng.random()
    slide = Glass((width, height), Mpp(0.5))
    tiles = Tiles(mpps=mpps, min_tissue=min_tissue, min_tissue_coarse=min_tissue, max_tiles=10**6)
    selected = len(tile_grids(slide, mask, tiles)[Mpp(0.5)].coords_px)
    alone = tile_grids(slide, mask, Tiles(mpps=(0.5,), min_tissue=0.0, max_tiles=10**6))[Mpp(0.5)]
    shares = dict(zip(map(tuple, np.rint(alone.coords_um / 128 - 0.5).astype(int)), alone.tissue, strict=True))
    k = round(max(mpps) / 0.5)
    for ox in range(k):
        for oy in range(k):
            assert selected >= count_in_groups(shares, [round(mpp / 0.5) for mpp in mpps], (ox, oy), min_tissue)


def count_in_groups(
    shares: dict[tuple[int, int], float], sides: list[int], before: tuple[int, int], least: float
) -> int:
    """Count the fine tiles that stay when coarse tiles start `before` fine ones before the corner; slow and obvious."""
    placed = {(x + before[0], y + before[1]): share for (x, y), share in shares.items()}
    good = {cell for cell, share in placed.items() if share >= least}
    children = good
    for side in sides[1:]:
        groups: dict[tuple[int, int], float] = {}
        for (x, y), share in placed.items():
            groups[x // side, y // side] = groups.get((x // side, y // side), 0.0) + share
        fit = {group for group, total in groups.items() if total / side**2 >= least - 1e-9}
        children = {(x, y) for x, y in children if (x // side, y // side) in fit}
    return len(children)


def test_share_equals_a_pixel_count() -> None:
    mask = blob()
    slide = Glass((1200, 900), 0.5)  # ten slide pixels a mask pixel
    grid = tile_grids(slide, mask, Tiles(mpps=(0.5,), tile_px=70, min_tissue=0.01))[Mpp(0.5)]
    whole = np.zeros((980, 1260), bool)
    whole[:900, :1200] = mask.repeat(10, axis=0).repeat(10, axis=1)
    counted = [whole[y : y + 70, x : x + 70].mean() for x, y in grid.coords_px]
    np.testing.assert_allclose(grid.tissue, counted, atol=1e-5)


def test_tissue_at_the_edge_is_not_lost() -> None:
    tiles = Tiles(mpps=(0.5,), min_tissue=0.3)
    grid = tile_grids(Glass((600, 600), Mpp(0.5)), np.ones((60, 60), bool), tiles)[Mpp(0.5)]
    assert cells(grid) == {(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1), (0, 2), (1, 2)} - {(2, 2)}


def test_coordinates_are_physical() -> None:
    mask = np.ones((50, 50), bool)
    grids = tile_grids(Glass((5000, 5000), 0.25), mask, Tiles(mpps=(0.5, 1.0), tile_px=256))
    first = grids[0.5]
    assert first.tile_um == 128
    assert first.coords_um[0].tolist() == [64.0, 64.0]
    assert first.coords_px[1].tolist() == [512, 0]
    assert corners_px(first)[1].tolist() == [512.0, 0.0]


def test_thinning_is_even_deterministic_and_keeps_families() -> None:
    slide, mask = Glass((25600, 25600), 0.5), np.ones((100, 100), bool)
    everything = tile_grids(slide, mask, Tiles(mpps=(0.5, 1.0), max_tiles=100_000))
    tiles = Tiles(mpps=(0.5, 1.0), max_tiles=1000)
    some = dict(tile_grids(slide, mask, tiles))
    assert len(everything[0.5].coords_px) == 10_000
    assert 900 <= len(some[0.5].coords_px) <= 1000
    assert len(some[0.5].coords_px) == 4 * len(some[1.0].coords_px)
    assert_nested(some)
    centres = some[1.0].coords_um
    quarters = np.histogram2d(*centres.T, bins=4, range=[[0, 12800]] * 2)[0]
    assert quarters.min() >= 0.6 * quarters.mean()
    again = tile_grids(slide, mask, tiles)
    np.testing.assert_array_equal(again[0.5].coords_px, some[0.5].coords_px)


def test_no_tissue_gives_empty_grids() -> None:
    grids = tile_grids(Glass((4000, 4000), 0.5), np.zeros((40, 40), bool), Tiles(min_tissue=0.0))
    assert [len(grid.coords_px) for grid in grids.values()] == [0, 0]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_fewer_tiles_than_one_family_keeps_one_family(most: int) -> None:
    grids = tile_grids(Glass((4096, 4096), 0.5), np.ones((40, 40), bool), Tiles(max_tiles=most))
    assert len(grids[1.0].coords_px) == 1
    assert len(grids[0.5].coords_px) == 4
