import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test
from sksurv.nonparametric import CensoringDistributionEstimator

from dml.evaluation.metrics.kaplan_meier import censoring_curve, kaplan_meier, log_rank, survival_at, survival_curve


def test_by_hand():
    estimate = kaplan_meier(np.array([1, 2, 2, 3, 5]), np.array([True, True, False, False, True]))
    np.testing.assert_array_equal(estimate.at_risk, [5, 4, 2, 1])
    np.testing.assert_allclose(estimate.survival, [4 / 5, 3 / 5, 3 / 5, 0])
    np.testing.assert_allclose(estimate.curve.at(np.array([0.5, 1, 2.9, 99])), [1, 4 / 5, 3 / 5, 0])


def test_curve_and_interval_agree_with_lifelines(sample):
    fitted = KaplanMeierFitter().fit(sample.days, sample.event)
    ours = kaplan_meier(sample.days, sample.event)
    theirs = fitted.survival_function_at_times(ours.days)
    np.testing.assert_allclose(ours.survival, theirs, atol=1e-8)
    interval = fitted.confidence_interval_survival_function_.loc[ours.days].to_numpy()
    inner = (ours.survival > 0) & (ours.survival < 1)
    np.testing.assert_allclose(np.c_[ours.low, ours.high][inner], interval[inner], atol=1e-8)


def test_censoring_agrees_with_scikit_survival(sample):
    theirs = CensoringDistributionEstimator().fit(sample.structured)
    at = np.unique(np.r_[sample.days, sample.days[:-1] + 0.5])
    at = at[at <= sample.days.max()]
    np.testing.assert_allclose(censoring_curve(sample.days, sample.event).at(at), theirs.predict_proba(at), atol=1e-8)


def test_weights_are_repeated_patients(sample):
    weights = np.random.default_rng(1).integers(0, 3, (4, len(sample)))
    horizons = np.quantile(sample.days, [0.1, 0.5, 0.9])
    ours = survival_at(weights, days=sample.days, event=sample.event, horizons=horizons)
    for row, values in zip(weights, ours, strict=True):
        repeated = survival_curve(np.repeat(sample.days, row), np.repeat(sample.event, row))
        np.testing.assert_allclose(values, repeated.at(horizons), atol=1e-12)


def test_log_rank_agrees_with_lifelines(sample):
    group = (sample.risk > np.median(sample.risk)).astype(int)
    theirs = logrank_test(
        sample.days[group == 0], sample.days[group == 1], sample.event[group == 0], sample.event[group == 1]
    )
    statistic, p = log_rank(sample.days, sample.event, group)
    assert statistic == pytest.approx(theirs.test_statistic, abs=1e-8)
    assert p == pytest.approx(theirs.p_value, abs=1e-8)


def test_an_empty_group_has_no_test():
    statistic, p = log_rank(np.array([1, 2, 3]), np.ones(3, bool), np.zeros(3, int))
    assert np.isnan(statistic)
    assert np.isnan(p)
