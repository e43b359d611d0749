import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from dml.core.tasks import ClassificationTask, RegressionTask, SurvivalTask, class_column, horizon_days, survival_column
from dml.evaluation.metric_sets import number_metrics
from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.calibration import calibration_slope, log_cumulative_hazard, observed_to_expected
from dml.evaluation.metrics.classification import expected_calibration_error
from dml.evaluation.recalibration import breslow, recalibrate

YEARS = (1.0, 2.0, 3.0)
GRADE = ClassificationTask("grade", ("a", "b"))


def _exaggerated(patients=400, seed=0):
    """Hazards three times too high and risks twice too far apart."""
    random = np.random.default_rng(seed)
    latent = random.normal(size=patients)
    death, dropout = random.exponential(1500 * np.exp(-latent)), random.exponential(3000, patients)
    rows = pd.DataFrame({"patient_id": [f"p{i}" for i in range(patients)], "risk": latent})
    rows["days"], rows["event"] = np.minimum(death, dropout), death <= dropout
    for year in YEARS:
        rows[survival_column(year)] = np.exp(-3 * horizon_days(year) / 1500 * np.exp(2 * latent))
    return rows


def _calibration(rows):
    days, event, one = rows["days"].to_numpy(), rows["event"].to_numpy(bool), unweighted(len(rows))
    survival = rows[survival_column(2.0)].to_numpy()
    ratio = observed_to_expected(one, days=days, event=event, survival=survival, horizon=730)[0]
    predictor = log_cumulative_hazard(survival)
    slope = calibration_slope(one, days=days, event=event, predictor=predictor, fold=np.zeros(len(rows), int))[0]
    return ratio, slope


def test_level_and_spread_of_survival_are_put_right_and_the_ranking_stays():
    rows = _exaggerated()
    after = recalibrate(rows, SurvivalTask(), YEARS, seed=1)
    before_ratio, before_slope = _calibration(rows)
    ratio, slope = _calibration(after)
    assert before_ratio < 0.8
    assert before_slope < 0.65
    assert ratio == pytest.approx(1, abs=0.05)
    assert slope == pytest.approx(1, abs=0.1)
    pd.testing.assert_series_equal(after["risk"], rows["risk"])
    curves = after[[survival_column(year) for year in YEARS]].to_numpy()
    assert (np.diff(curves, axis=1) <= 0).all()


def test_nobody_is_judged_by_a_fit_on_his_own_outcome():
    rows = _exaggerated(60)
    one = recalibrate(rows, SurvivalTask(), YEARS, seed=1)
    changed = rows.copy()
    changed.loc[0, "days"] = 5000.0
    other = recalibrate(changed, SurvivalTask(), YEARS, seed=1)
    columns = [survival_column(year) for year in YEARS]
    np.testing.assert_array_equal(one.loc[0, columns].to_numpy(float), other.loc[0, columns].to_numpy(float))
    assert not np.array_equal(one[columns], other[columns])


def test_class_probabilities_are_put_right():
    random = np.random.default_rng(3)
    honest = random.dirichlet(np.ones(2) * 2, 500)
    label = (random.random(500) < honest[:, 1]).astype(int)
    sharp = honest**3 / (honest**3).sum(axis=1, keepdims=True)
    rows = pd.DataFrame({class_column("a"): sharp[:, 0], class_column("b"): sharp[:, 1]})
    rows["label"] = np.array(["a", "b"])[label]
    after = recalibrate(rows, GRADE, (), seed=0)[[class_column("a"), class_column("b")]].to_numpy()
    errors = [expected_calibration_error(unweighted(500), label=label, probabilities=p)[0] for p in (sharp, after)]
    assert errors[1] < 0.6 * errors[0]


def test_too_few_deaths_or_patients_of_a_class_are_not_fitted():
    rows = _exaggerated(40)
    assert recalibrate(rows.assign(event=np.arange(40) < 9), SurvivalTask(), YEARS, seed=0) is None
    labels = pd.DataFrame({"p_a": np.full(40, 0.5), "p_b": np.full(40, 0.5), "label": ["a"] * 35 + ["b"] * 5})
    assert recalibrate(labels, GRADE, (), seed=0) is None


def test_breslow_agrees_with_lifelines(sample):
    table = pd.DataFrame({"days": sample.days, "event": sample.event, "x": sample.risk})
    fitted = CoxPHFitter(baseline_estimation_method="breslow").fit(table, "days", "event")
    hazard = fitted.predict_partial_hazard(table).to_numpy()
    horizons = np.quantile(sample.days, [0.2, 0.5, 0.9])
    theirs = fitted.baseline_cumulative_hazard_.iloc[:, 0]
    expected = [theirs[theirs.index <= horizon].iloc[-1] for horizon in horizons]
    np.testing.assert_allclose(breslow(sample.days, sample.event, hazard, horizons), expected, atol=1e-8)


def _numbers(n: int, seed: int = 0) -> pd.DataFrame:
    """Predictions with half the deviation that they should have, ten too high, with intervals far too narrow."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(50, 10, n)
    value = 60 + 0.5 * (truth + rng.normal(0, 4, n) - 50)
    ends = {"value_lower": value - 0.5, "value_upper": value + 0.5}
    return pd.DataFrame({"patient_id": [f"p{i}" for i in range(n)], "fold": 0, "value": value, **ends, "target": truth})


def test_numbers_get_the_line_and_the_coverage_that_they_should_have():
    rows, task = _numbers(600), RegressionTask("purity")
    before, after = number_metrics(rows), number_metrics(recalibrate(rows, task, (), seed=1))
    value = {name: float(metric(np.ones((1, 600)))[0]) for name, metric in after.items()}
    assert float(before["coverage"](np.ones((1, 600)))[0]) < 0.2
    assert value["coverage"] == pytest.approx(0.8, abs=0.04)
    assert value["calibration_slope"] == pytest.approx(1, abs=0.03)
    assert value["bias"] == pytest.approx(0, abs=0.3)
    assert value["spearman"] == pytest.approx(float(before["spearman"](np.ones((1, 600)))[0]), abs=0.01)


def test_a_number_is_refitted_without_its_own_patient_and_intervals_contain_their_value():
    rows, task = _numbers(50), RegressionTask("purity")
    one = recalibrate(rows, task, (), seed=1)
    changed = rows.assign(target=rows["target"].where(rows.index != 7, 1000.0))
    other = recalibrate(changed, task, (), seed=1)
    columns = ["value", "value_lower", "value_upper"]
    assert one.loc[7, columns].tolist() == other.loc[7, columns].tolist()
    assert not np.allclose(one[columns], other[columns])
    reversed_ = recalibrate(rows.assign(target=-rows["target"]), task, (), seed=1)
    assert ((reversed_["value_lower"] <= reversed_["value"]) & (reversed_["value"] <= reversed_["value_upper"])).all()
    assert recalibrate(rows.head(9), task, (), seed=1) is None
