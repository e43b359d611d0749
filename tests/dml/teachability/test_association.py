import numpy as np
import pytest

from dml.evaluation.intervals import bootstrap_weights
from dml.teachability import association as module
from dml.teachability.association import associate, gaussian_information


@pytest.fixture
def pairs(rng):
    target = rng.normal(size=(60, 4))
    return target, 0.5 * target + rng.normal(size=(60, 4)), np.zeros((60, 4)), np.arange(60) % 3


def test_one_fold_is_the_usual_correlation_and_r2(pairs):
    target, prediction, mean, _ = pairs
    result = associate(target, prediction, mean, np.zeros(60, int), np.ones((1, 60)))
    for k in range(4):
        assert result.r[0, k] == pytest.approx(np.corrcoef(target[:, k], prediction[:, k])[0, 1])
        expected = 1 - ((target - prediction)[:, k] ** 2).sum() / (target[:, k] ** 2).sum()
        assert result.r2[0, k] == pytest.approx(expected)
    np.testing.assert_allclose(result.nats[0], -0.5 * np.log(1 - result.r[0] ** 2))


def test_a_weight_is_a_copy_of_the_patient(pairs):
    target, prediction, mean, fold = pairs
    weights = bootstrap_weights(fold, 5, seed=1)
    result = associate(target, prediction, mean, fold, weights)
    for row, weight in zip(range(1, 6), weights, strict=True):
        rows = np.repeat(np.arange(60), weight)
        copied = associate(target[rows], prediction[rows], mean[rows], fold[rows], np.ones((1, len(rows))))
        np.testing.assert_allclose(result.r[row], copied.r[0])
        np.testing.assert_allclose(result.r2[row], copied.r2[0])


def test_levels_of_folds_do_not_count(pairs):
    target, prediction, mean, fold = pairs
    shifted = prediction + np.array([0.0, 50.0, -20.0])[fold][:, None]
    once = np.ones((1, 60))
    np.testing.assert_allclose(
        associate(target, shifted, mean, fold, once).r, associate(target, prediction, mean, fold, once).r
    )


def test_blocks_of_targets_give_the_same(pairs, monkeypatch):
    target, prediction, mean, fold = pairs
    once = associate(target, prediction, mean, fold, np.ones((1, 60)))
    monkeypatch.setattr(module, "TARGETS_AT_ONCE", 3)
    np.testing.assert_allclose(associate(target, prediction, mean, fold, np.ones((1, 60))).r, once.r, rtol=1e-12)


def test_what_does_not_vary_has_no_number(pairs):
    target, prediction, mean, fold = pairs
    target[:, 0], prediction[:, 1] = 2.0, 2.0
    result = associate(target, prediction, mean, fold, np.ones((1, 60)))
    assert np.isnan(result.r[0]).tolist() == [True, True, False, False]


def test_information_of_two_normal_variables():
    """The covariance matrix of a bivariate normal: I = -0.5 log det of its correlation matrix."""
    for r in (0.1, 0.56, 0.9):
        assert gaussian_information(np.array(r)) == pytest.approx(-0.5 * np.log(np.linalg.det([[1, r], [r, 1]])))
    assert gaussian_information(np.array([-0.5, 0.0])).tolist() == [0.0, 0.0]
    assert np.isfinite(gaussian_information(np.array(1.0)))
