"""Sums over pairs of patients of the same fold, for many weightings at once.

Shape legend: r weightings, n patients, a rows and b columns of a block of pairs.
"""

from collections.abc import Callable, Sequence

import numpy as np

from dml.evaluation.metrics import Index, Mask, Values, Vector, Weights, ratio

Kernel = Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]
"""Indices of a first ``[a]`` and a second patient ``[b]`` to one or more matrices ``[a b]`` of pair values."""

ROWS_PER_BLOCK = 1024
"""Rows of pairs held at once: memory grows with n, not with n squared."""


def pair_sums(weights: Weights, fold: Index, kernel: Kernel, first: np.ndarray | None = None) -> list[np.ndarray]:
    """Sum pair values over all ordered pairs within a fold, each pair counted weight times weight.

    A patient drawn twice in a resample is two patients, so integer weights give exactly the value of the resample
    (pairs of a patient with itself are tied in everything and must be zero in the kernel).

    Parameters
    ----------
    weights : [r n]
        How often each patient counts.
    fold : [n]
        Only patients of the same fold are paired: risks of different models are not comparable.
    kernel : callable
        Gives the pair values of a block of pairs.
    first : bool [n], optional
        Patients that can be first in a pair with a value other than zero; the others are skipped.

    Returns
    -------
    list of [r]
        One sum per matrix of the kernel.
    """
    weights = np.asarray(weights, float)
    totals: list[np.ndarray] = []
    for value in np.unique(fold):
        columns = np.flatnonzero(fold == value)
        rows = columns if first is None else columns[first[columns]]
        for start in range(0, max(len(rows), 1), ROWS_PER_BLOCK):
            block = rows[start : start + ROWS_PER_BLOCK]
            sums = [_quadratic(weights[:, block], matrix, weights[:, columns]) for matrix in kernel(block, columns)]
            totals = sums if not totals else [total + part for total, part in zip(totals, sums, strict=True)]
    return totals


def share_in_favour(
    weights: Weights, score: Vector, fold: Index, counted: Callable[[np.ndarray, np.ndarray], np.ndarray], first: Mask
) -> Values:
    """Of the pairs that count, the share whose first patient has the higher score; NaN where no pair counts.

    Parameters
    ----------
    weights, fold, first
        As for `pair_sums`.
    score : [n]
        Equal scores count one half.
    counted : callable
        Indices ``[a]`` and ``[b]`` to how much each pair counts ``[a b]``.
    """

    def kernel(i: np.ndarray, j: np.ndarray) -> list[np.ndarray]:
        pairs = counted(i, j)
        return [pairs * favourable(score[i], score[j]), pairs]

    return ratio(*pair_sums(weights, fold, kernel, first=first))


def favourable(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return ``[a b]``: 1 where the first patient's score is higher, one half where equal, else 0."""
    higher = first[:, None] > second[None, :]
    equal = first[:, None] == second[None, :]
    return np.asarray(higher + 0.5 * equal)


def _quadratic(left: np.ndarray, matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("rb,rb->r", left @ np.asarray(matrix, float), right))
