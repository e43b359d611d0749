"""Comparisons over sections: values of scipy, means over sections, one table's correction."""

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from dml.core.errors import InputError
from dml.spatial.comparison import Comparison, Settings, SpotComparer, SpotSection
from dml.spatial.spot_grid import SpotGrid

SETTINGS = Settings(draws=299, resamples=200, seed=3)


def make_section(seed: int, side: int = 16) -> SpotSection:
    """Truth, a map that has it, one that has its negative weakly, one that has nothing, and a region."""
    random = np.random.default_rng(seed)
    y, x = (each.ravel().astype(float) for each in np.mgrid[:side, :side])

    def field() -> np.ndarray:
        values = gaussian_filter(random.normal(size=(side, side)), 1.5).ravel()
        return np.asarray(values / values.std())

    truth, noise = field(), random.normal(size=side * side)
    columns = {"truth": truth, "good": truth + 0.5 * noise, "other": field(), "region": (truth > 0.5).astype(float)}
    values = pd.DataFrame(columns)
    values.loc[[0, 5], "good"] = np.nan
    return SpotSection(f"S{seed}", f"P{seed}", SpotGrid.of(x, y), values)


@pytest.fixture(scope="module")
def sections() -> list[SpotSection]:
    return [make_section(seed) for seed in (1, 2)]


ROWS = [
    Comparison("good", "truth"),
    Comparison("other", "truth"),
    Comparison("good", "region", "auc"),
    Comparison("good", "region", "auc", less="other"),
    Comparison("absent", "truth"),
]


def test_values_are_means_over_sections_of_scipy_and_scikit_learn(sections: list[SpotSection]) -> None:
    good, other, area, difference, absent = SpotComparer(sections, SETTINGS).table(ROWS)
    tables = [section.values.dropna() for section in sections]
    assert good.value == pytest.approx(np.mean([spearmanr(t["good"], t["truth"])[0] for t in tables]))
    aucs = [roc_auc_score(t["region"], t["good"]) for t in tables]
    assert area.value == pytest.approx(np.mean(aucs))
    assert list(area.sections.values()) == pytest.approx(aucs)
    rest = [roc_auc_score(s.values["region"], s.values["other"]) for s in sections]
    assert difference.value == pytest.approx(np.mean(aucs) - np.mean(rest), abs=1e-9)
    assert good.spots == 2 * 254
    assert np.isnan(absent.value)
    assert not absent.shown
    for row in (good, area, difference):
        assert row.low < row.value < row.high
        assert row.p <= row.p_table <= 0.05
        assert row.shown
    assert other.p > 0.05
    assert not other.shown


def test_equal_seeds_give_equal_numbers_and_spots_may_come_in_any_order(sections: list[SpotSection]) -> None:
    first, again = (SpotComparer(sections, SETTINGS).table(ROWS[:3]) for _ in range(2))
    assert [row.to_json() for row in first] == [row.to_json() for row in again]
    shuffled = []
    for section in sections:
        order = np.random.default_rng(0).permutation(len(section.grid))
        grid = SpotGrid(section.grid.rows[order], section.grid.columns[order])
        shuffled.append(SpotSection(section.section_id, section.patient_id, grid, section.values.iloc[order]))
    for row, other in zip(first, SpotComparer(shuffled, SETTINGS).table(ROWS[:3]), strict=True):
        assert (row.value, row.p, row.p_table) == pytest.approx((other.value, other.p, other.p_table))


def test_a_monotone_map_changes_no_value_and_no_p(sections: list[SpotSection]) -> None:
    monotone = [
        SpotSection(s.section_id, s.patient_id, s.grid, s.values.assign(good=np.exp(s.values["good"])))
        for s in sections
    ]
    for row, other in zip(*(SpotComparer(s, SETTINGS).table(ROWS[:4]) for s in (sections, monotone)), strict=True):
        assert row.to_json() == other.to_json()


def test_one_small_section_has_no_more_draws_than_moves() -> None:
    comparer = SpotComparer([make_section(1, side=5)], Settings(draws=999, resamples=10))
    assert comparer.draws < 999
    assert comparer.table([Comparison("good", "truth")])[0].p >= 1 / (1 + comparer.draws)
    with pytest.raises(InputError, match="no section"):
        SpotComparer([], SETTINGS)
