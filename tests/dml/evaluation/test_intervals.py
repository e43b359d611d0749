from functools import partial

import numpy as np
import pytest

from dml.evaluation.intervals import bootstrap_weights, difference, estimate, evaluate_resamples, holm, two_sided_p
from dml.evaluation.metrics import ratio
from dml.evaluation.metrics.brier import weighted_mean
from dml.evaluation.metrics.concordance import harrell_c


def test_every_fold_keeps_its_size_and_every_patient_its_chance():
    fold = np.repeat([0, 1, 2], [10, 25, 3])
    weights = bootstrap_weights(fold, 4000, seed=1)
    for value in range(3):
        assert (weights[:, fold == value].sum(axis=1) == (fold == value).sum()).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.1)


def test_equal_seeds_draw_alike_and_others_do_not():
    fold = np.zeros(20, int)
    np.testing.assert_array_equal(bootstrap_weights(fold, 50, 3), bootstrap_weights(fold, 50, 3))
    assert (bootstrap_weights(fold, 50, 3) != bootstrap_weights(fold, 50, 4)).any()


def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(11)
    covered = 0
    for trial in range(300):
        sample = random.normal(1.0, 2.0, size=60)
        weights = bootstrap_weights(np.zeros(60, int), 300, seed=trial)
        found = estimate(partial(weighted_mean, terms=sample), weights, 0.9)
        covered += found.low <= 1.0 <= found.high
    assert 0.84 <= covered / 300 <= 0.95


def test_the_interval_of_c_covers_the_truth():
    random = np.random.default_rng(12)
    covered = 0
    for trial in range(100):
        risk = random.normal(size=60)
        other = random.normal(size=60)  # P(risk_i > risk_j | -days_i > -days_j) of a bivariate normal with r = 0.6
        days = -(0.6 * risk + 0.8 * other)
        metric = partial(harrell_c, days=days, event=np.ones(60, bool), risk=risk, fold=np.zeros(60, int))
        found = estimate(metric, bootstrap_weights(np.zeros(60, int), 300, trial), 0.95)
        covered += found.low <= 0.5 + np.arcsin(0.6) / np.pi <= found.high
    assert covered >= 88


def test_a_random_risk_is_at_chance():
    random = np.random.default_rng(13)
    days, event, fold = random.exponential(size=200), random.random(200) < 0.5, np.arange(200) % 4
    metric = partial(harrell_c, days=days, event=event, risk=random.normal(size=200), fold=fold)
    found = estimate(metric, bootstrap_weights(fold, 500, 0), 0.95)
    assert found.low < 0.5 < found.high


def test_a_metric_that_is_often_undefined_has_no_interval():
    rare = np.r_[np.ones(2), np.zeros(18)]
    weights = bootstrap_weights(np.zeros(20, int), 200, 0)
    assert estimate(lambda w: ratio(w @ rare, w @ rare), weights, 0.95) is None


def test_pairing_sees_a_small_difference_that_the_intervals_hide():
    random = np.random.default_rng(14)
    base = random.normal(size=80)
    better = base + 0.05 + 0.02 * random.normal(size=80)
    weights = bootstrap_weights(np.zeros(80, int), 1000, 0)
    one, other = partial(weighted_mean, terms=better), partial(weighted_mean, terms=base)
    apart = estimate(one, weights, 0.95), estimate(other, weights, 0.95)
    assert apart[0].low < apart[1].high
    found = difference(one, other, weights, 0.95)
    assert found.value == pytest.approx((better - base).mean())
    assert found.low > 0
    assert found.p == pytest.approx(2 / 1001)


def test_a_model_does_not_differ_from_itself():
    metric = partial(weighted_mean, terms=np.arange(10.0))
    found = difference(metric, metric, bootstrap_weights(np.zeros(10, int), 100, 0), 0.95)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_p_counts_both_sides():
    assert two_sided_p(np.array([-1.0, 1, 2, 3, 4, 5, 6, 7, 8])) == pytest.approx(2 * 2 / 10)


def test_holm_by_hand():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


def test_chunks_do_not_change_the_values():
    terms = np.random.default_rng(0).normal(size=30)
    weights = bootstrap_weights(np.zeros(30, int), 700, 0)
    np.testing.assert_allclose(evaluate_resamples(partial(weighted_mean, terms=terms), weights), weights @ terms / 30)
