"""Rank statistics equal those of scipy and scikit-learn, and p-values of a table control the family-wise error."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from dml.spatial.spot_grid import SpotGrid, block_weights
from dml.spatial.statistics import auc, interval, p_values, spearman, table_p_values, weighted_ranks

RANDOM = np.random.default_rng(0)
X, Y = np.round(RANDOM.normal(size=(2, 120)), 1)  # with ties
POSITIVE = Y > 0.4
WEIGHTS = RANDOM.integers(0, 4, size=(6, 120))


def repeated(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.repeat(values, weights)


def test_weighted_ranks_are_those_of_the_repeated_values() -> None:
    for ranks, weights in zip(weighted_ranks(X, WEIGHTS), WEIGHTS, strict=True):
        assert np.allclose(repeated(ranks, weights), rankdata(repeated(X, weights)))


def test_statistics_are_those_of_scipy_and_scikit_learn_on_the_repeated_spots() -> None:
    for i, weights in enumerate(WEIGHTS):
        x, y, positive = (repeated(v, weights) for v in (X, Y, POSITIVE))
        assert spearman(X, Y, WEIGHTS)[i] == pytest.approx(spearmanr(x, y)[0], abs=1e-12)
        assert auc(X, POSITIVE, WEIGHTS)[i] == pytest.approx(roc_auc_score(positive, x), abs=1e-12)


def test_monotone_maps_and_the_order_of_spots_change_nothing() -> None:
    order, one = RANDOM.permutation(len(X)), np.ones((1, len(X)))
    for x in (np.exp(X), 3 * X**3 - 2, X):
        assert spearman(x, Y, one) == pytest.approx(spearman(X, Y, one), abs=1e-12)
        assert auc(x, POSITIVE, one) == pytest.approx(auc(X, POSITIVE, one), abs=1e-12)
    assert spearman(X[order], Y[order], one) == pytest.approx(spearman(X, Y, one), abs=1e-12)


def test_what_is_constant_or_of_one_class_is_undefined() -> None:
    one = np.ones((1, 4))
    assert np.isnan(spearman(np.ones(4), np.arange(4.0), one)).all()
    assert np.isnan(auc(np.arange(4.0), np.ones(4, bool), one)).all()


def test_p_values_count_the_observed_among_the_draws() -> None:
    null = np.array([[-0.5, 0.1, 0.2, np.nan]])
    assert p_values(np.array([0.5]), null)[0] == pytest.approx(2 / 4)
    assert p_values(np.array([0.6]), null)[0] == pytest.approx(1 / 4)
    assert np.isnan(p_values(np.array([np.nan]), null)[0])


@pytest.mark.parametrize("step_down", [False, True])
def test_the_maximum_controls_the_family_wise_error(step_down: bool) -> None:
    random, errors, uncorrected = np.random.default_rng(1), 0, 0
    mix = np.eye(12) + 0.5  # dependent comparisons
    scale = np.linspace(0.5, 3, 12)[:, None]
    for _ in range(400):
        draws = scale * (mix @ random.normal(size=(12, 200)))
        observed, null = draws[:, 0], draws[:, 1:]
        errors += (table_p_values(observed, null, step_down) <= 0.05).any()
        uncorrected += (p_values(observed, null) <= 0.05).any()
    assert errors / 400 <= 0.08
    assert uncorrected / 400 > 0.15


def test_a_correction_never_lowers_p_and_stepping_down_never_raises_it() -> None:
    null = np.random.default_rng(2).normal(size=(8, 500))
    observed = np.array([4.0, 3.0, 2.5, 2.0, 1.0, 0.5, 0.1, np.nan])
    raw, single = p_values(observed, null), table_p_values(observed, null)
    stepped = table_p_values(observed, null, step_down=True)
    assert (single[:-1] >= raw[:-1] - 0.02).all()
    assert (stepped[:-1] <= single[:-1] + 1e-12).all()
    assert np.isnan(single[-1])
    assert stepped[0] == single[0] == pytest.approx(1 / 501, abs=0.01)


def test_an_interval_is_undefined_where_resamples_are() -> None:
    values = np.vstack([np.linspace(0, 1, 101), np.where(np.arange(101) < 10, np.nan, 1.0)])
    assert interval(values, 0.9)[:, 0] == pytest.approx([0.05, 0.95])
    assert np.isnan(interval(values, 0.9)[:, 1]).all()


def test_blocks_are_drawn_whole_and_cover_smooth_maps() -> None:
    y, x = (each.ravel().astype(float) for each in np.mgrid[:12, :12])
    grid = SpotGrid.of(x, y)
    weights, again, single = (block_weights([grid], side, 400, 0)[0] for side in (4, 4, 1))
    assert np.array_equal(weights, again)
    assert weights.mean() == pytest.approx(1, abs=0.05)
    field = np.sin(x / 4) + np.cos(y / 5)
    means = [(w * field).sum(1) / w.sum(1) for w in (weights, single)]
    assert means[0].std() > 2 * means[1].std(), "blocks know that neighbours are alike"


def test_blocks_are_drawn_in_all_sections_of_a_patient() -> None:
    y, x = (each.ravel().astype(float) for each in np.mgrid[:9, :9])
    first, second = block_weights([SpotGrid.of(x, y), SpotGrid.of(x + 3, y)], 3, 50, 0)
    assert np.array_equal(first, second)
    assert len(np.unique(first)) > 1
