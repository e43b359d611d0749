"""Metrics of predicted numbers against scipy and scikit-learn, and as functions of weights."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as reference

from dml.evaluation.intervals import bootstrap_weights
from dml.evaluation.metric_sets import PRIMARY, leading_metric, number_metrics


def sample(n: int, seed: int, folds: int = 1, decimals: int = 1) -> pd.DataFrame:
    """Numbers with ties, predicted with an error; the last fold's are shifted."""
    rng = np.random.default_rng(seed)
    target = np.round(rng.gamma(2, 10, n), decimals)
    value = np.round(0.7 * target + 4 + rng.normal(0, 6, n), decimals)
    half = rng.uniform(1, 12, n)
    ends = {"value_lower": value - half, "value_upper": value + half}
    return pd.DataFrame({"fold": np.arange(n) % folds, "target": target, "value": value, **ends})


def values(rows: pd.DataFrame, weights: np.ndarray | None = None) -> dict[str, float]:
    weights = np.ones((1, len(rows))) if weights is None else weights
    return {name: float(metric(weights)[0]) for name, metric in number_metrics(rows).items()}


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_they_are_those_of_scipy_and_scikit_learn(decimals: int) -> None:
    rows = sample(200, 3, decimals=decimals)
    ours, target, value = values(rows), rows["target"], rows["value"]
    line = stats.linregress(value, target)
    assert ours["spearman"] == pytest.approx(stats.spearmanr(target, value).statistic)
    assert ours["r2"] == pytest.approx(reference.r2_score(target, value))
    assert ours["mae"] == pytest.approx(reference.mean_absolute_error(target, value))
    assert ours["calibration_slope"] == pytest.approx(line.slope)
    assert ours["calibration_intercept"] == pytest.approx(line.intercept)
    assert ours["bias"] == pytest.approx((value - target).mean())
    assert ours["coverage"] == pytest.approx(target.between(rows["value_lower"], rows["value_upper"]).mean())


def test_a_weighting_is_the_resample_it_stands_for() -> None:
    rows = sample(60, 4, folds=3)
    for weights in bootstrap_weights(rows["fold"].to_numpy(), 5, seed=2):
        repeated = rows.loc[np.repeat(rows.index, weights)].reset_index(drop=True)
        assert values(rows, weights[None]) == pytest.approx(values(repeated))


def test_ranks_are_compared_inside_folds() -> None:
    rows = sample(90, 5, folds=3)
    each = [stats.spearmanr(part["target"], part["value"]).statistic for _, part in rows.groupby("fold")]
    assert values(rows)["spearman"] == pytest.approx(np.mean(each))
    shifted = rows.assign(value=rows["value"] + 1000 * rows["fold"])
    assert values(shifted)["spearman"] == pytest.approx(np.mean(each))


def test_a_prediction_that_ranks_nobody_counts_as_chance() -> None:
    rows = sample(40, 6).assign(value=20.0, value_lower=0.0, value_upper=1000.0)
    ours = values(rows)
    assert ours["spearman"] == 0
    assert np.isnan(ours["calibration_slope"])
    assert ours["coverage"] == 1
    assert values(rows.assign(value=rows["target"].mean()))["r2"] == pytest.approx(0)


def test_targets_that_do_not_vary_have_no_correlation() -> None:
    rows = sample(40, 7, folds=2)
    one_fold = rows.assign(target=rows["target"].where(rows["fold"] == 0, 5.0))
    inside = one_fold[one_fold["fold"] == 0]
    assert values(one_fold)["spearman"] == pytest.approx(values(inside)["spearman"])
    assert np.isnan(values(rows.assign(target=5.0))["spearman"])
    assert np.isnan(values(rows.assign(target=5.0))["r2"])


def test_spearman_leads() -> None:
    rows = sample(30, 8)
    assert PRIMARY["regression"] == "spearman"
    assert leading_metric(rows, "regression", ())(np.ones((1, 30)))[0] == values(rows)["spearman"]
