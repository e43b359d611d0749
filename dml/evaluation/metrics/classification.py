"""Discrimination, accuracy and calibration of class probabilities.

AUC compares patients of the same fold only (each fold has its own model); what depends on a patient alone is pooled.
Shape legend: r weightings, n patients, k classes.
"""

import functools
import operator

import numpy as np
from jaxtyping import Float

from dml.evaluation.metrics import Index, Mask, Probabilities, Values, Vector, Weights, ratio
from dml.evaluation.metrics.brier import weighted_mean
from dml.evaluation.metrics.pairs import pair_sums
from dml.evaluation.metrics.registry import metric


@metric("auc_{class}", kind="classification", label="AUC {class}", order=90, chance=0.5, min_classes=3)
def one_vs_rest_auc(weights: Weights, *, label: Index, score: Vector, fold: Index, positive: int) -> Values:
    """Area under the ROC curve of one class against the others: pairs within folds, pooled over folds."""
    inside = label == positive
    return pair_sums(weights, score, fold, first=inside, second=~inside).share_in_favour


@metric("auc", kind="classification", label="AUC", order=10, leading=True, headline=True, main=True, compared=True,
        chance=0.5)  # fmt: skip
def macro_auc(weights: Weights, *, label: Index, probabilities: Probabilities, fold: Index) -> Values:
    """Mean of the one-vs-rest AUC of the classes among the labels; NaN where one of these is not defined.

    Two classes give the usual AUC. A class that no patient has (a subgroup may lack one) is not averaged over.
    """
    present = np.unique(label).tolist()
    areas = [one_vs_rest_auc(weights, label=label, score=probabilities[:, k], fold=fold, positive=k) for k in present]
    return np.asarray(np.mean(areas, axis=0))


def pooled_auc(weights: Weights, *, label: Index, scores: Probabilities, fold: Index) -> Values:
    """One-vs-rest AUC with the pairs of all classes in one sum: for rare classes, whose own AUC is often undefined.

    Returns
    -------
    [r]
        Share of pairs (a patient of a class, one of another, same fold) in which the class's score is higher.
    """
    present = np.unique(label).tolist()
    each = (pair_sums(weights, scores[:, k], fold, first=label == k, second=label != k) for k in present)
    return functools.reduce(operator.add, each).share_in_favour


def confusion(weights: Weights, label: Index, predicted: Index, classes: int) -> Float[np.ndarray, "r k k"]:
    """Weighted counts of patients by true (first) and predicted (second) class."""
    cells = np.eye(classes * classes)[label * classes + predicted]
    return np.asarray((weights @ cells).reshape(len(weights), classes, classes))


@metric("recall_{class}", kind="classification", label="Recall {class}", order=70)
def recall(weights: Weights, *, label: Index, predicted: Index, classes: int, positive: int) -> Values:
    """Share of one class's patients that are recognised; NaN where the class has none."""
    return _recalls(confusion(weights, label, predicted, classes))[:, positive]


@metric("balanced_accuracy", kind="classification", label="Balanced accuracy", order=20, headline=True, main=True,
        compared=True, chance=lambda classes: 1 / classes)  # fmt: skip
def balanced_accuracy(weights: Weights, *, label: Index, predicted: Index, classes: int) -> Values:
    """Mean recall of the classes that have patients."""
    recalls = _recalls(confusion(weights, label, predicted, classes))
    present = ~np.isnan(recalls)
    return ratio(np.where(present, recalls, 0).sum(axis=1), present.sum(axis=1).astype(float))


@metric("f1", kind="classification", label="Macro F1", order=30, main=True)
def macro_f1(weights: Weights, *, label: Index, predicted: Index, classes: int) -> Values:
    """Mean over classes of the harmonic mean of precision and recall; a class neither true nor predicted is left."""
    table = confusion(weights, label, predicted, classes)
    right = np.diagonal(table, axis1=1, axis2=2)
    f1 = ratio(2 * right, table.sum(axis=1) + table.sum(axis=2))
    present = ~np.isnan(f1)
    return ratio(np.where(present, f1, 0).sum(axis=1), present.sum(axis=1).astype(float))


@metric("brier", kind="classification", label="Brier", order=50, higher_is_better=False, main=True, compared=True)
def brier_score(weights: Weights, *, label: Index, probabilities: Probabilities) -> Values:
    """Mean squared distance of the probabilities from the true class, halved for two classes (the usual score)."""
    classes = probabilities.shape[1]
    squared = ((probabilities - np.eye(classes)[label]) ** 2).sum(axis=1)
    return weighted_mean(weights, terms=np.asarray(squared / 2 if classes == 2 else squared))


@metric("ece", kind="classification", label="Calibration error", order=40, higher_is_better=False, main=True)
def expected_calibration_error(
    weights: Weights, *, label: Index, probabilities: Probabilities, bins: int = 10
) -> Values:
    """Mean gap of confidence and accuracy over equal bins of the largest probability (Naeini et al., AAAI 2015).

    Examples
    --------
    Four patients predicted with 0.8; three of them right: the gap is 0.05.

    >>> label, probabilities = np.array([0, 0, 0, 1]), np.tile([0.8, 0.2], (4, 1))
    >>> expected_calibration_error(np.ones((1, 4)), label=label, probabilities=probabilities).round(3)
    array([0.05])
    """
    confidence = probabilities.max(axis=1)
    gap = (probabilities.argmax(axis=1) == label) - confidence
    inside = np.eye(bins)[np.clip((confidence * bins).astype(int), 0, bins - 1)]
    return ratio(np.abs(weights @ (inside * gap[:, None])).sum(axis=1), weights.sum(axis=1))


@metric("oe_{class}", kind="classification", label="Observed/expected {class}", order=80, higher_is_better=None,
        calibration=True)  # fmt: skip
def observed_to_expected(weights: Weights, *, inside: Mask, probability: Vector) -> Values:
    """Patients of a class over the sum of its predicted probabilities; 1 is right on average."""
    return ratio(weights @ inside.astype(float), weights @ probability)


def _recalls(table: np.ndarray) -> np.ndarray:
    return ratio(np.diagonal(table, axis1=1, axis2=2), table.sum(axis=2))
