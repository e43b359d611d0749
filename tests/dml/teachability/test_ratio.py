import numpy as np
import pytest

from dml.teachability.ratio import fieller


def sample(top: float, bottom: float, v_top: float, v_bottom: float, correlation: float, seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    covariance = correlation * np.sqrt(v_top * v_bottom)
    draws = rng.multivariate_normal([top, bottom], [[v_top, covariance], [covariance, v_bottom]], size=20_000)
    return np.r_[top, draws[:, 0]], np.r_[bottom, draws[:, 1]]


def test_ends_are_where_the_difference_is_at_the_edge_of_significance():
    """By definition of the set: (N - t D)^2 = z^2 var(N - t D) at both ends."""
    numerator, denominator = sample(0.3, 1.0, 0.01, 0.02, 0.5)
    ratio = fieller(numerator, denominator, 0.95)
    assert ratio.value == pytest.approx(0.3)
    for end in (ratio.low, ratio.high):
        difference = numerator - end * denominator
        assert abs(difference[0]) / difference[1:].std(ddof=1) == pytest.approx(1.959964, rel=1e-5)
    assert ratio.low < ratio.value < ratio.high


def test_with_a_gap_that_is_known_the_interval_is_that_of_the_numerator():
    numerator, denominator = sample(0.3, 2.0, 0.01, 1e-12, 0.0)
    ratio = fieller(numerator, denominator, 0.95)
    half = 1.959964 * numerator[1:].std(ddof=1) / 2
    assert ratio.low == pytest.approx(0.15 - half, abs=1e-6)
    assert ratio.high == pytest.approx(0.15 + half, abs=1e-6)


def test_coverage_of_a_true_ratio():
    """Of many samples of a ratio of 0.4, about 95 % hold it."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        top, bottom = rng.normal(0.4, 0.1), rng.normal(1.0, 0.2)
        draws = rng.normal(size=(2, 1000))
        ratio = fieller(np.r_[top, top + 0.1 * draws[0]], np.r_[bottom, bottom + 0.2 * draws[1]], 0.95)
        hits += ratio.low is None or ratio.low <= 0.4 <= ratio.high
    assert 0.92 < hits / 400 < 0.98


def test_a_gap_that_may_be_zero_gives_no_interval():
    assert fieller(*sample(0.3, 1.0, 0.01, 1.0, 0.0), 0.95).low is None
    negative = fieller(*sample(0.3, -0.1, 0.01, 0.01, 0.0), 0.95)
    assert np.isnan(negative.value)
    assert negative.to_json() == {"value": None, "ci_low": None, "ci_high": None}


def test_draws_that_are_not_defined_are_left_out():
    numerator, denominator = sample(0.3, 1.0, 0.01, 0.01, 0.0)
    numerator[5] = np.nan
    assert fieller(numerator, denominator, 0.95).low is not None
