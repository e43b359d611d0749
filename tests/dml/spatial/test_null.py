"""The null of two maps of one section: exact for noise, and as wide as the maps are smooth."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest, spearmanr

from dml.core.errors import InputError
from dml.spatial.null import MIN_OVERLAP, draw_moves, null_correlations
from dml.spatial.spot_grid import IMAGES, SpotGrid
from dml.spatial.statistics import p_values

Array = NDArray[np.float64]


def section(side: int = 20, incomplete: bool = True) -> SpotGrid:
    """A round section with a hole, or the whole square."""
    x, y = (each.ravel().astype(float) for each in np.meshgrid(np.arange(side), np.arange(side)))
    middle = (side - 1) / 2
    distance = np.hypot(x - middle, y - middle)
    inside = (distance < side * 0.52) & (np.hypot(x - 3, y - middle) > 2) if incomplete else distance >= 0
    return SpotGrid.of(x[inside], y[inside])


def smooth_map(grid: SpotGrid, random: np.random.Generator, sigma: float) -> Array:
    field = random.normal(size=(80, 80))
    smooth = gaussian_filter(field, sigma) if sigma else field
    return np.asarray(smooth[20 + grid.rows, 20 + grid.columns])


def p_of(grid: SpotGrid, x: Array, y: Array, seed: int, draws: int = 399) -> float:
    null = null_correlations(grid, x, y[None], draw_moves([grid], draws, seed))
    return float(p_values(np.array([spearmanr(x, y)[0]]), null)[0])


def simulate(grid: SpotGrid, sigma: float, simulations: int, p: Callable[..., float]) -> Array:
    random = np.random.default_rng(0)
    return np.array([p(grid, smooth_map(grid, random, sigma), smooth_map(grid, random, sigma), i)
                     for i in range(simulations)])  # fmt: skip


def permutation_p(grid: SpotGrid, x: Array, y: Array, seed: int) -> float:
    random = np.random.default_rng(seed)
    null = np.array([spearmanr(random.permutation(x), y)[0] for _ in range(99)])
    return float(p_values(np.array([spearmanr(x, y)[0]]), null[None])[0])


@pytest.mark.parametrize("grid", [section(incomplete=False), section()], ids=["complete", "incomplete"])
def test_p_is_uniform_for_independent_noise(grid: SpotGrid) -> None:
    assert kstest(simulate(grid, 0, 300, p_of), "uniform").pvalue > 0.01


def test_smooth_independent_maps_are_seldom_called_associated() -> None:
    grid = section()
    assert (simulate(grid, 2.0, 200, p_of) <= 0.05).mean() <= 0.08
    assert (simulate(grid, 2.0, 60, permutation_p) <= 0.05).mean() > 0.4, "permuted spots lose the pattern"


def test_a_planted_association_is_detected() -> None:
    grid, random = section(), np.random.default_rng(1)
    x = smooth_map(grid, random, 1.5)
    assert p_of(grid, x, x + 0.1 * smooth_map(grid, random, 0), 0, draws=999) <= 0.005


def test_every_move_is_the_correlation_of_the_moved_map() -> None:
    grid, random = section(9), np.random.default_rng(2)
    x, y = random.normal(size=(2, len(grid)))
    x[3], y[5] = np.nan, np.nan
    moves = draw_moves([grid], 80, 0)
    result = null_correlations(grid, x, y[None], moves)[0]
    both = np.isfinite(x) & np.isfinite(y)
    ranks = [np.where(both, np.argsort(np.argsort(np.where(both, v, np.inf))), np.nan).astype(float) for v in (x, y)]
    position = np.stack([grid.rows, grid.columns])
    places = {tuple(spot): i for i, spot in enumerate(position.T)}
    for value, image, *shift in zip(result, moves.image, moves.row, moves.column, strict=True):
        down, right, turned = IMAGES[image]
        centred = 2 * position - (np.array(grid.extent)[:, None] - 1)
        centred = np.array([[down], [right]]) * centred
        centred = centred[::-1] if turned else centred
        at = (centred + (np.array(grid.extent)[:, None] - 1)) // 2 + np.array(shift)[:, None]
        target = np.array([places.get(tuple(spot), -1) for spot in at.T])
        meet = (target >= 0) & both & both[target]
        expected = np.corrcoef(ranks[0][meet], ranks[1][target[meet]])[0, 1] * np.sqrt(meet.sum() / both.sum())
        assert value == pytest.approx(expected, abs=1e-9)
    assert set(moves.image) == set(range(len(IMAGES)))


def test_moves_leave_enough_spots_on_spots_and_are_drawn_once() -> None:
    grid = section()
    moves = draw_moves([grid], 300, 0)
    overlap = grid.overlap(np.ones(len(grid), bool))[moves.image, moves.row % grid.side, moves.column % grid.side]
    assert overlap.min() >= MIN_OVERLAP * len(grid)
    assert len({*zip(moves.image, moves.row, moves.column, strict=True)}) == 300
    assert not ((moves.image == 0) & (moves.row == 0) & (moves.column == 0)).any()
    assert np.array_equal(draw_moves([grid], 300, 0).row, moves.row)


def test_a_hexagonal_array_is_moved_onto_itself_without_quarter_turns() -> None:
    row, column = (each.ravel() for each in np.mgrid[:12, :24])
    even = (row + column) % 2 == 0
    grid = SpotGrid.of(column[even].astype(float), row[even].astype(float))
    moves = draw_moves([grid], 200, 0)
    assert set(moves.image) <= {0, 1, 2, 3}
    overlap = grid.overlap(np.ones(len(grid), bool))[moves.image, moves.row % grid.side, moves.column % grid.side]
    assert overlap.min() >= MIN_OVERLAP * len(grid)


def test_cuts_of_one_block_do_not_count_as_independent() -> None:
    """Replicates of one pattern: moved at once they are one section, moved each by itself they reject too often."""
    grids = [section(), section(18), section(19)]
    random, rejected = np.random.default_rng(3), {"at once": 0, "each": 0}
    for i in range(200):
        fields = [gaussian_filter(random.normal(size=(80, 80)), 2.0) for _ in range(2)]
        maps = [[field[40 + g.rows - g.extent[0] // 2, 40 + g.columns - g.extent[1] // 2] for field in fields]
                for g in grids]  # fmt: skip
        observed = np.array([np.mean([spearmanr(x, y)[0] for x, y in maps])])
        together_moves = draw_moves(grids, 99, i)
        for name in rejected:
            moves = [together_moves if name == "at once" else draw_moves([g], 99, 10 * i + j)
                     for j, g in enumerate(grids)]  # fmt: skip
            nulls = [null_correlations(g, x, y[None], m) for g, (x, y), m in zip(grids, maps, moves, strict=True)]
            rejected[name] += int(p_values(observed, np.mean(nulls, axis=0))[0] <= 0.05)
    assert rejected["at once"] / 200 <= 0.08
    assert rejected["each"] / 200 > 0.15


def test_two_spots_at_one_position_and_a_section_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="two spots at array position 1, 2"):
        SpotGrid.of(np.array([1.0, 1.2]), np.array([2.0, 2.0]))
    with pytest.raises(InputError, match="19 are needed"):
        draw_moves([SpotGrid.of(np.array([0.0]), np.array([0.0]))], 9, 0)
    with pytest.raises(InputError, match="no spot"):
        SpotGrid.of(np.array([]), np.array([]))
