"""Weights of tiles at spots are areas: exact for a disc on a square."""

import numpy as np
import pytest

from dml.spatial.spot_overlap import disc_area_on_square, overlap


def test_areas_are_those_of_a_fine_grid_of_points() -> None:
    random = np.random.default_rng(0)
    centres, side = random.uniform(-1.6, 1.6, size=(60, 2)), 1.1
    points = (np.mgrid[:500, :500].reshape(2, -1).T + 0.5) / 250 - 1
    points = points[(points**2).sum(1) < 1]
    expected = [(np.abs(points - centre) < side / 2).all(1).mean() * np.pi for centre in centres]
    assert disc_area_on_square(centres, side) == pytest.approx(np.array(expected), abs=5e-3)


def test_tiles_that_pave_the_plane_share_the_whole_disc() -> None:
    tiles = (np.mgrid[:9, :9].reshape(2, -1).T - 4) * 0.5
    assert disc_area_on_square(tiles + 0.13, 0.5).sum() == pytest.approx(np.pi, abs=1e-9)


@pytest.mark.parametrize("kernel", ["disc", "gaussian"])
def test_a_constant_stays_and_a_gradient_is_read_at_the_spot(kernel: str) -> None:
    tiles = (np.mgrid[:40, :40].reshape(2, -1).T + 0.5) * 20.0
    spots = np.array([[300.0, 410.0], [155.0, 600.0]])
    weights = overlap(spots, tiles, 20.0, 100.0, kernel)  # type: ignore[arg-type]
    values = weights.resample(np.column_stack([np.ones(len(tiles)), tiles[:, 0]]))
    assert values[:, 0] == pytest.approx(1)
    assert values[:, 1] == pytest.approx(spots[:, 0], abs=0.5)
    assert weights.coverage == pytest.approx(1, abs=0.02)


def test_a_spot_without_tiles_or_at_their_edge_is_missing() -> None:
    spots, tiles = np.array([[50.0, 50.0], [500.0, 50.0], [140.0, 50.0]]), np.array([[50.0, 50.0]])
    weights = overlap(spots, tiles, 100.0, 100.0)
    assert np.isnan(weights.resample(np.array([2.0]))).tolist() == [False, True, True]
    assert weights.coverage[2] == pytest.approx(0.052, abs=0.01)
    assert weights.tiles_of(0).tolist() == [0]
    assert overlap(spots, np.zeros((0, 2)), 100.0, 100.0).coverage.tolist() == [0, 0, 0]


def test_overlapping_tiles_are_averaged() -> None:
    tiles = np.array([[0.0, 0.0], [0.0, 0.0]])
    assert overlap(np.zeros((1, 2)), tiles, 200.0, 100.0).resample(np.array([1.0, 2.0])) == pytest.approx([1.5])
