"""The null of two maps of one section: exact for noise, and as wide as the maps are smooth."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest, spearmanr

from dml.core.errors import InputError
from dml.spatial.null import draw_moves, null_correlations
from dml.spatial.spot_grid import MIRRORS, SpotGrid, mirror
from dml.spatial.statistics import p_values

Array = NDArray[np.float64]


def section(side: int = 20, margin: float = 1.0, incomplete: bool = True) -> SpotGrid:
    """A round section with a hole, or the whole square."""
    x, y = (each.ravel().astype(float) for each in np.meshgrid(np.arange(side), np.arange(side)))
    middle = (side - 1) / 2
    distance = np.hypot(x - middle, y - middle)
    inside = (distance < side * 0.52) & (np.hypot(x - 3, y - middle) > 2) if incomplete else distance >= 0
    return SpotGrid.of(x[inside], y[inside], margin)


def smooth_map(grid: SpotGrid, random: np.random.Generator, sigma: float) -> Array:
    field = random.normal(size=(80, 80))
    smooth = gaussian_filter(field, sigma) if sigma else field
    return np.asarray(smooth[20 + grid.rows, 20 + grid.columns])


def p_of(grid: SpotGrid, x: Array, y: Array, seed: int, draws: int = 399) -> float:
    null = null_correlations(grid, x, y[None], draw_moves(grid, draws, seed))
    return float(p_values(np.array([spearmanr(x, y)[0]]), null)[0])


def simulate(grid: SpotGrid, sigma: float, simulations: int, p: Callable[..., float]) -> Array:
    random = np.random.default_rng(0)
    return np.array([p(grid, smooth_map(grid, random, sigma), smooth_map(grid, random, sigma), i)
                     for i in range(simulations)])  # fmt: skip


def permutation_p(grid: SpotGrid, x: Array, y: Array, seed: int) -> float:
    random = np.random.default_rng(seed)
    null = np.array([spearmanr(random.permutation(x), y)[0] for _ in range(99)])
    return float(p_values(np.array([spearmanr(x, y)[0]]), null[None])[0])


@pytest.mark.parametrize("grid", [section(margin=0, incomplete=False), section()], ids=["full torus", "incomplete"])
def test_p_is_uniform_for_independent_noise(grid: SpotGrid) -> None:
    assert kstest(simulate(grid, 0, 300, p_of), "uniform").pvalue > 0.01


def test_smooth_independent_maps_are_seldom_called_associated() -> None:
    grid = section()
    assert (simulate(grid, 2.0, 200, p_of) <= 0.05).mean() <= 0.08
    assert (simulate(grid, 2.0, 60, permutation_p) <= 0.05).mean() > 0.4, "permuted spots lose the pattern"


def test_the_margin_keeps_opposite_edges_apart() -> None:
    rates = [(simulate(section(margin=m), 3.5, 200, p_of) <= 0.05).mean() for m in (0.0, 1.0)]
    assert rates[1] <= rates[0]
    assert rates[1] <= 0.1


def test_a_planted_association_is_detected() -> None:
    grid, random = section(), np.random.default_rng(1)
    x = smooth_map(grid, random, 1.5)
    assert p_of(grid, x, x + 0.1 * smooth_map(grid, random, 0), 0, draws=999) <= 0.005


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_every_move_is_the_correlation_of_the_moved_map(margin: float) -> None:
    grid, random = section(9, margin), np.random.default_rng(2)
    x, y = random.normal(size=(2, len(grid)))
    x[3], y[5] = np.nan, np.nan
    moves = draw_moves(grid, 40, 0)
    result = null_correlations(grid, x, y[None], moves)[0]
    both = np.isfinite(x) & np.isfinite(y)
    ranks = [np.where(both, np.argsort(np.argsort(np.where(both, v, np.inf))), np.nan).astype(float) for v in (x, y)]
    fields = [np.full(grid.shape, np.nan) for _ in ranks]
    for field, rank in zip(fields, ranks, strict=True):
        field[grid.rows, grid.columns] = rank
    for value, image, row, column in zip(result, moves.image, moves.row, moves.column, strict=True):
        moved = np.roll(mirror(fields[0], MIRRORS[image]), (row, column), (0, 1))
        meet = np.isfinite(moved) & np.isfinite(fields[1])
        expected = np.corrcoef(moved[meet], fields[1][meet])[0, 1] * np.sqrt(meet.sum() / both.sum())
        assert value == pytest.approx(expected, abs=1e-9)


def test_moves_leave_half_of_the_spots_on_spots_and_are_drawn_once() -> None:
    grid = section()
    moves = draw_moves(grid, 300, 0)
    overlap = grid.overlap(np.ones(len(grid), bool))[moves.image, moves.row, moves.column]
    assert overlap.min() >= len(grid) / 2
    assert len({*zip(moves.image, moves.row, moves.column, strict=True)}) == 300
    assert not ((moves.image == 0) & (moves.row == 0) & (moves.column == 0)).any()
    assert np.array_equal(draw_moves(grid, 300, 0).row, moves.row)


def test_a_hexagonal_array_is_moved_onto_itself_alone() -> None:
    row, column = (each.ravel() for each in np.mgrid[:12, :24])
    even = (row + column) % 2 == 0
    grid = SpotGrid.of(column[even].astype(float), row[even].astype(float))
    moves = draw_moves(grid, 200, 0)
    moved = [np.roll(mirror(grid.scatter(np.ones(len(grid))), MIRRORS[i]), (r, c), (0, 1))
             for i, r, c in zip(moves.image, moves.row, moves.column, strict=True)]  # fmt: skip
    assert min((grid.scatter(np.ones(len(grid))) * each).sum() for each in moved) >= len(grid) / 2


def test_two_spots_at_one_position_and_a_section_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="two spots at array position 1, 2"):
        SpotGrid.of(np.array([1.0, 1.2]), np.array([2.0, 2.0]))
    with pytest.raises(InputError, match="19 are needed"):
        draw_moves(SpotGrid.of(np.array([0.0]), np.array([0.0])), 9, 0)
    with pytest.raises(InputError, match="no spot"):
        SpotGrid.of(np.array([]), np.array([]))
