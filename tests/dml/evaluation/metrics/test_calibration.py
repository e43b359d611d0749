import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from sksurv.linear_model import CoxPHSurvivalAnalysis

from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.calibration import (
    calibration_slope,
    d_calibration,
    log_cumulative_hazard,
    observed_to_expected,
    survival_at_follow_up,
)


def _slope(sample, predictor, fold=None, weights=None):
    weights = unweighted(len(sample)) if weights is None else weights
    fold = sample.one_fold if fold is None else fold
    return calibration_slope(weights, days=sample.days, event=sample.event, predictor=predictor, fold=fold)


def test_slope_agrees_with_scikit_survival(sample):
    fitted = CoxPHSurvivalAnalysis(ties="breslow", tol=1e-14, n_iter=500).fit(sample.risk[:, None], sample.structured)
    assert _slope(sample, sample.risk)[0] == pytest.approx(fitted.coef_[0], abs=1e-8)


def test_slope_over_folds_agrees_with_lifelines_strata():
    random = np.random.default_rng(4)
    table = pd.DataFrame({"x": random.normal(size=120), "fold": random.integers(0, 3, 120)})
    table["days"], table["event"] = random.exponential(np.exp(-table["x"])), random.random(120) < 0.6
    fitted = CoxPHFitter().fit(
        table, "days", "event", strata=["fold"], fit_options={"precision": 1e-12, "step_size": 0.5}
    )
    ours = calibration_slope(
        unweighted(120), days=table["days"].to_numpy(), event=table["event"].to_numpy(),
        predictor=table["x"].to_numpy(), fold=table["fold"].to_numpy(),
    )  # fmt: skip
    assert ours[0] == pytest.approx(fitted.params_["x"], abs=1e-8)


def test_slope_of_weights_is_that_of_repeated_patients(sample):
    weights = np.random.default_rng(1).integers(0, 3, (3, len(sample)))
    fold = np.arange(len(sample)) % 2
    for row, value in zip(weights, _slope(sample, sample.risk, fold, weights), strict=True):
        index = np.repeat(np.arange(len(sample)), row)
        repeated = calibration_slope(
            unweighted(len(index)), days=sample.days[index], event=sample.event[index],
            predictor=sample.risk[index], fold=fold[index],
        )  # fmt: skip
        assert value == pytest.approx(repeated[0], abs=1e-7)


def test_slope_without_a_varying_predictor_or_a_maximum_is_not_a_number(sample):
    assert np.isnan(_slope(sample, np.ones(len(sample)))).all()
    separated = calibration_slope(
        unweighted(4), days=np.array([1, 2, 3, 4]), event=np.ones(4, bool),
        predictor=np.array([4.0, 3, 2, 1]), fold=np.zeros(4, int),
    )  # fmt: skip
    assert np.isnan(separated).all()


def test_observed_to_expected_uses_kaplan_meier(sample):
    horizon = float(np.median(sample.days))
    survival = sample.survival[:, 1]
    observed = 1 - KaplanMeierFitter().fit(sample.days, sample.event).predict(horizon)
    ours = observed_to_expected(
        unweighted(len(sample)), days=sample.days, event=sample.event, survival=survival, horizon=horizon
    )
    assert ours[0] == pytest.approx(observed / (1 - survival).mean(), abs=1e-8)


def test_d_calibration_by_hand():
    # two bins: deaths at survival 0.2 and 0.9; censored at 0.8: (0.8-0.5)/0.8 above one half, 0.5/0.8 below
    result = d_calibration(np.arange(3), np.array([True, True, False]), np.array([0.2, 0.9, 0.8]), bins=2)
    np.testing.assert_allclose(result.counts, [1 + 0.5 / 0.8, 1 + 0.3 / 0.8])
    assert result.statistic == pytest.approx(2 * (0.125**2) / 1.5)


def test_d_calibration_accepts_the_truth_and_refuses_half_the_hazard():
    random = np.random.default_rng(8)
    death, dropout = random.exponential(size=2000), random.exponential(1.5, size=2000)
    days, event = np.minimum(death, dropout), death <= dropout
    truth = d_calibration(days, event, np.exp(-days))
    assert truth.counts.sum() == pytest.approx(2000)
    assert truth.p > 0.01
    assert d_calibration(days, event, np.exp(-days / 2)).p < 1e-6


def test_survival_between_horizons_has_a_constant_hazard():
    survival = np.exp(-np.outer([1.0, 2.0], [1, 2, 5]))
    own = survival_at_follow_up(np.array([0.5, 4.0]), survival, np.array([1, 2, 5]))
    np.testing.assert_allclose(own, [np.exp(-0.5), np.exp(-8)], rtol=1e-6)


def test_complementary_log_log_survives_certainty():
    assert np.isfinite(log_cumulative_hazard(np.array([0.0, 0.5, 1.0]))).all()
