"""Correct labels by predictions of models that did not train on the patient: confident learning with a limit per class.

    t_j  = mean of p_j(i) over patients i labelled j          a threshold of its own for each class
    j(i) = argmax of p_j(i) over the classes j with p_j(i) >= t_j
    a patient labelled y != j(i) is a candidate; of those labelled y at most a share, by the margin p_j(i) - p_y(i)

Candidates get the label j(i). A rare class is not held to the threshold of a frequent one, and the limit keeps the
labels of one round from moving a class into another. Sources: thresholds, Northcutt, Jiang and Chuang 2021 (JAIR 70,
1373-1411); replacement with decoupled thresholds and a central ensemble as the teacher, Bai et al. (arXiv 2308.16376).

Shape legend: n patients, k classes.
"""

import importlib.util

import numpy as np
from jaxtyping import Bool, Float, Int

MAX_SHARE = 0.05
"""Share of the patients of a class whose label may change in one round."""
ROUNDS = 2
"""Rounds of training and correction."""


def class_thresholds(p: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "k"]:
    """Return each class's mean predicted probability among the patients labelled so; infinite for a class of nobody."""
    return np.array([p[labels == j, j].mean() if (labels == j).any() else np.inf for j in range(p.shape[1])])


def correct_labels(
    p: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    fixed: Bool[np.ndarray, "n"] | None = None,
    max_share: float = MAX_SHARE,
) -> Int[np.ndarray, "n"]:
    """Return the labels after one round of correction.

    Parameters
    ----------
    p : array, n k
        Predicted probabilities by models that did not train on the patient.
    labels : array, n
        Labels as they are, from 0.
    fixed : array, n, optional
        Patients whose label does not change, as those of an earlier round.
    max_share : float
        Largest share of a class that changes, rounded down: below 1 / max_share patients, nobody.

    Examples
    --------
    The third of three patients labelled 0 is taken for class 1 with confidence:

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    >>> correct_labels(p, np.array([0, 0, 0, 1, 1]), max_share=0.4).tolist()
    [0, 0, 1, 1, 1]
    """
    confident = np.where(p >= class_thresholds(p, labels), p, -np.inf)
    best = confident.argmax(axis=1)
    patients = np.arange(len(labels))
    candidate = np.isfinite(confident[patients, best]) & (best != labels)
    if fixed is not None:
        candidate &= ~fixed
    margin = p[patients, best] - p[patients, labels]
    corrected = labels.copy()
    for y in range(p.shape[1]):
        members = np.flatnonzero(candidate & (labels == y))
        limit = int(max_share * (labels == y).sum() + 1e-9)
        chosen = members[np.argsort(-margin[members], kind="stable")][:limit]
        corrected[chosen] = best[chosen]
    return corrected


def cleanlab_is_there() -> bool:
    """Whether the optional library cleanlab is installed."""
    return importlib.util.find_spec("cleanlab") is not None


def cleanlab_issues(p: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Return which labels cleanlab, with its own settings, would remove (Northcutt 2021)."""
    from cleanlab.filter import find_label_issues

    return np.asarray(find_label_issues(labels=labels, pred_probs=p, n_jobs=1), dtype=bool)
