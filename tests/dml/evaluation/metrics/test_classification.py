import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    recall_score,
    roc_auc_score,
)
from torchmetrics.functional.classification import multiclass_calibration_error

from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.classification import (
    balanced_accuracy,
    brier_score,
    confusion,
    expected_calibration_error,
    macro_auc,
    macro_f1,
    one_vs_rest_auc,
    pooled_auc,
    recall,
)


@pytest.fixture(params=[(2, 0), (2, 1), (3, 2), (5, 3)], ids=lambda p: f"{p[0]}classes")
def outcome(request):
    """Labels and rounded (so tied) probabilities that know a little."""
    classes, seed = request.param
    random = np.random.default_rng(seed)
    label = np.r_[np.arange(classes), random.integers(0, classes, 140)]
    scores = random.gamma(1, size=(len(label), classes)) + 0.5 * np.eye(classes)[label]
    rounded = np.round(scores / scores.sum(axis=1, keepdims=True), 1)
    rounded[:, 0] += 1 - rounded.sum(axis=1)
    return label, np.abs(rounded) / np.abs(rounded).sum(axis=1, keepdims=True)


def test_everything_agrees_with_scikit_learn(outcome):
    label, probabilities = outcome
    one, fold, classes = unweighted(len(label)), np.zeros(len(label), int), probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    hard = {"label": label, "predicted": predicted, "classes": classes}
    np.testing.assert_array_equal(confusion(one, label, predicted, classes)[0], confusion_matrix(label, predicted))
    assert balanced_accuracy(one, **hard)[0] == pytest.approx(balanced_accuracy_score(label, predicted), abs=1e-8)
    assert macro_f1(one, **hard)[0] == pytest.approx(f1_score(label, predicted, average="macro"), abs=1e-8)
    recalls = [recall(one, **hard, positive=k)[0] for k in range(classes)]
    np.testing.assert_allclose(recalls, recall_score(label, predicted, average=None), atol=1e-8)
    brier = brier_score(one, label=label, probabilities=probabilities)[0]
    scores = probabilities if classes > 2 else probabilities[:, 1]
    assert brier == pytest.approx(brier_score_loss(label, scores), abs=1e-8)
    auc = macro_auc(one, label=label, probabilities=probabilities, fold=fold)[0]
    assert auc == pytest.approx(roc_auc_score(label, scores, multi_class="ovr", average="macro"), abs=1e-8)


def test_calibration_error_agrees_with_torchmetrics():
    random = np.random.default_rng(5)
    probabilities = random.dirichlet(np.ones(4), 300)
    label = random.integers(0, 4, 300)
    ours = expected_calibration_error(unweighted(300), label=label, probabilities=probabilities)
    theirs = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(label), 4, n_bins=10)
    assert ours[0] == pytest.approx(float(theirs), abs=1e-6)  # torchmetrics sums in float32


@pytest.mark.parametrize("seed", range(4))
def test_calibration_error_is_the_gap_of_scikit_learns_calibration_curve(seed):
    """Its bins hold the share that is right and the mean confidence; the error weighs their gaps by patients."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(3, (0.3, 1, 4, 20)[seed]), 200)
    label = random.integers(0, 3, 200)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == label
    share, mean = calibration_curve(right, confidence, n_bins=10)
    counts = np.histogram(confidence, np.linspace(0, 1, 11))[0]
    expected = (counts[counts > 0] * np.abs(share - mean)).sum() / 200
    ours = expected_calibration_error(unweighted(200), label=label, probabilities=probabilities)
    assert ours[0] == pytest.approx(expected, abs=1e-8)


def test_calibration_error_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.4, 0.6]])
    ours = expected_calibration_error(unweighted(4), label=np.array([0, 1, 0, 1]), probabilities=probabilities)
    # bin 0.9-1.0: accuracy 1/2 against 0.95; bin 0.6-0.7: accuracy 1 against 0.625
    assert ours[0] == pytest.approx((2 * 0.45 + 2 * 0.375) / 4)


def test_weights_are_repeated_patients(outcome):
    label, probabilities = outcome
    random = np.random.default_rng(6)
    weights, fold = random.integers(0, 4, (4, len(label))), random.integers(0, 2, len(label))
    soft = macro_auc(weights, label=label, probabilities=probabilities, fold=fold)
    error = expected_calibration_error(weights, label=label, probabilities=probabilities)
    for row, auc, ece in zip(weights, soft, error, strict=True):
        index = np.repeat(np.arange(len(label)), row)
        again = {"label": label[index], "probabilities": probabilities[index]}
        assert auc == pytest.approx(macro_auc(unweighted(len(index)), **again, fold=fold[index])[0], abs=1e-12)
        assert ece == pytest.approx(expected_calibration_error(unweighted(len(index)), **again)[0], abs=1e-12)


def test_patients_of_different_folds_are_not_compared():
    label, fold = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    score = np.array([0.1, 0.2, 0.8, 0.9])  # within folds perfect; across folds the calm fold looks worse
    assert one_vs_rest_auc(unweighted(4), label=label, score=score, fold=fold, positive=1)[0] == 1


def test_absent_classes_are_left_out_or_undefined():
    label, predicted = np.array([0, 0, 1]), np.array([0, 1, 1])
    hard = {"label": label, "predicted": predicted, "classes": 3}
    assert balanced_accuracy(unweighted(3), **hard)[0] == pytest.approx(0.75)
    assert np.isnan(recall(unweighted(3), **hard, positive=2)[0])
    assert macro_f1(unweighted(3), **hard)[0] == pytest.approx(2 / 3)
    probabilities = np.array([[0.6, 0.4, 0.0], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1]])
    assert macro_auc(unweighted(3), label=label, probabilities=probabilities, fold=np.zeros(3, int))[0] == 1
    assert np.isnan(one_vs_rest_auc(unweighted(3), label=label, score=predicted, fold=np.zeros(3, int), positive=2))


def test_pooled_over_classes_is_the_micro_average_of_pairs_and_macro_for_two(outcome):
    label, probabilities = outcome
    one, fold = unweighted(len(label)), np.arange(len(label)) % 2
    pairs = [
        (probabilities[i, label[i]] > probabilities[j, label[i]])
        + 0.5 * (probabilities[i, label[i]] == probabilities[j, label[i]])
        for i in range(len(label))
        for j in range(len(label))
        if label[i] != label[j] and fold[i] == fold[j]
    ]
    found = pooled_auc(one, label=label, scores=probabilities, fold=fold)[0]
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)
    if probabilities.shape[1] == 2:
        macro = macro_auc(one, label=label, probabilities=probabilities, fold=fold)[0]
        assert found == pytest.approx(macro, abs=1e-12)
