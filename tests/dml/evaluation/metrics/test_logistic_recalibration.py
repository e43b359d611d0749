import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.logistic_recalibration import (
    apply_recalibration,
    calibration_slope,
    fit_recalibration,
)


def _outcome(classes, seed, patients=200):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), patients)
    drawn = np.array([random.choice(classes, p=row**0.6 / (row**0.6).sum()) for row in probabilities])
    return drawn, probabilities


def _loss(parameters, label, probabilities):
    logits = parameters[0] * np.log(probabilities) + np.r_[0.0, parameters[1:]]
    return -(logits[np.arange(len(label)), label] - np.log(np.exp(logits).sum(axis=1))).sum()


def test_two_classes_are_the_logistic_recalibration_of_scikit_learn():
    label, probabilities = _outcome(2, 0)
    logit = np.log(probabilities[:, 1] / probabilities[:, 0])
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-14).fit(logit[:, None], label)
    ours = fit_recalibration(unweighted(200), label=label, probabilities=probabilities)[0]
    assert ours == pytest.approx([theirs.coef_[0, 0], theirs.intercept_[0]], abs=1e-8)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_no_other_parameters_are_likelier(classes):
    label, probabilities = _outcome(classes, classes)
    ours = fit_recalibration(unweighted(200), label=label, probabilities=probabilities)[0]
    best = minimize(_loss, np.r_[1.0, np.zeros(classes - 1)], (label, probabilities), options={"gtol": 1e-9})
    assert ours == pytest.approx(best.x, abs=1e-5)
    assert 0.3 < ours[0] < 0.9  # drawn from probabilities raised to 0.6: the given ones are too extreme


def test_weights_are_repeated_patients():
    label, probabilities = _outcome(3, 7, 90)
    weights = np.random.default_rng(1).integers(0, 3, (4, 90))
    for row, value in zip(weights, calibration_slope(weights, label=label, probabilities=probabilities), strict=True):
        index = np.repeat(np.arange(90), row)
        again = calibration_slope(unweighted(len(index)), label=label[index], probabilities=probabilities[index])
        assert value == pytest.approx(again[0], abs=1e-8)


def test_recalibrated_probabilities_have_slope_one_and_the_right_totals():
    label, probabilities = _outcome(3, 9)
    better = apply_recalibration(
        fit_recalibration(unweighted(200), label=label, probabilities=probabilities)[0], probabilities
    )
    assert calibration_slope(unweighted(200), label=label, probabilities=better)[0] == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(better.sum(axis=0), np.bincount(label), atol=1e-6)


def test_without_a_class_or_a_varying_probability_there_is_no_slope():
    label, probabilities = _outcome(3, 2)
    assert np.isnan(calibration_slope(unweighted(200), label=np.minimum(label, 1), probabilities=probabilities))
    assert np.isnan(calibration_slope(unweighted(200), label=label, probabilities=np.full((200, 3), 1 / 3)))
