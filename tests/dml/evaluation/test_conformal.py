"""Coverage of conformal sets and bounds on data that the predictions were not made from, good and bad ones."""

import numpy as np
import pytest

from dml.evaluation.conformal import ClassSets, NumberIntervals, SurvivalBounds, conformal_quantile

N = 4000


@pytest.mark.parametrize("confidence", [1.0, 4.0])
def test_sets_of_classes_cover_also_where_the_model_is_overconfident(confidence: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = np.array([rng.choice(3, p=p) for p in true])
    claimed = np.exp(confidence * logits)
    claimed /= claimed.sum(axis=1, keepdims=True)
    half = N // 2
    inside = ClassSets.fit(claimed[:half], label[:half])(claimed[half:])
    assert inside[np.arange(half), label[half:]].mean() == pytest.approx(0.9, abs=0.02)
    assert inside.any(axis=1).all()


def test_intervals_of_numbers_cover() -> None:
    rng = np.random.default_rng(1)
    value, target = rng.normal(size=(2, N))
    ends = NumberIntervals.fit(value[:2000], target[:2000])(value[2000:])
    covered = (ends[:, 0] <= target[2000:]) & (target[2000:] <= ends[:, 1])
    assert covered.mean() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("bias", [1.0, 0.5, 2.0])
def test_bounds_of_survival_cover_under_censoring_also_where_the_curve_is_wrong(bias: float) -> None:
    rng = np.random.default_rng(2)
    hazard = rng.uniform(0.1, 0.8, 2 * N) / 365
    died, censored = rng.exponential(1 / hazard), rng.uniform(100, 4000, 2 * N)
    days, event = np.minimum(died, censored), died <= censored
    horizons = (365.0, 730.0, 1096.0, 1826.0)
    curves = np.exp(-bias * hazard[:, None] * np.array(horizons))
    bound = SurvivalBounds.fit(curves[:N], days[:N], event[:N], horizons)(curves[N:])
    assert (died[N:] >= bound).mean() == pytest.approx(0.9, abs=0.025)
    assert bound.min() > 0


def test_too_few_patients_give_no_finite_set() -> None:
    assert conformal_quantile(np.ones(5), 0.1) == np.inf
    assert ClassSets.fit(np.full((5, 2), 0.5), np.zeros(5, int))(np.array([[0.9, 0.1]])).all()


def test_a_curve_that_stays_high_gives_the_last_horizon() -> None:
    assert SurvivalBounds((365.0, 730.0), 0.5)(np.array([[0.9, 0.8], [0.6, 0.4]])).tolist() == [730.0, 547.5]
