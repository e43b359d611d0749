"""Differences of the expression of many groups of patients, each against all others, with one sort of each gene.

Counts, means and squares of each group are summed once; those of all others are sums over the groups. The distance of
two empirical distribution functions is largest at a value of the group or just below one, where ranks among all
patients and ranks within the group answer together.

Shape legend: n patients, g genes, s groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

LIMITS = (1, 99)
"""Percentiles of all patients within which each gene is held (published z-scores reach 3,515)."""
BLOCK = 256
"""Genes whose values are held as float64 at once."""


@dataclass(frozen=True, slots=True)
class GroupDifferences:
    """Each group against all others: means of the others and of the group, d and the Kolmogorov-Smirnov statistic."""

    mean_others: Float[np.ndarray, "s g"]
    mean: Float[np.ndarray, "s g"]
    d: Float[np.ndarray, "s g"]
    ks: Float[np.ndarray, "s g"]


def compare_groups_of_rows(
    values: Float[np.ndarray, "n g"], groups: Int[np.ndarray, "n"], number: int
) -> GroupDifferences:
    """Compare the rows of each group with all other rows, gene by gene.

    Parameters
    ----------
    values : [n, g]
        Expression, turned to float64 and held within `LIMITS` block by block.
    groups : [n]
        Group of each row, 0 to number - 1; every group has a row.
    number : int
        Number of groups s, at least 2.
    """
    blocks = [
        _compare_block(values[:, start : start + BLOCK].astype(np.float64), groups, number)
        for start in range(0, values.shape[1], BLOCK)
    ]
    return GroupDifferences(*(np.concatenate(each, axis=1) for each in zip(*blocks, strict=True)))


def standardise(gap: np.ndarray, pooled: np.ndarray) -> np.ndarray:
    """Return differences of means in pooled standard deviations; 0 or infinite where nothing varies."""
    still = pooled < 1e-9 * np.maximum(1.0, np.abs(gap))
    constant = np.where(np.abs(gap) > 1e-9, np.copysign(np.inf, gap), 0.0)
    return np.asarray(np.where(still, constant, gap / np.where(still, 1.0, pooled)))


def _compare_block(
    values: Float[np.ndarray, "n g"], groups: Int[np.ndarray, "n"], number: int
) -> Sequence[Float[np.ndarray, "s g"]]:
    low, high = np.percentile(values, LIMITS, axis=0)
    held = values.clip(low, high)
    rows = [np.flatnonzero(groups == group) for group in range(number)]
    sizes = np.array([len(each) for each in rows])
    mean = np.stack([held[each].mean(axis=0) for each in rows])
    squares = np.stack([((held[each] - mean[i]) ** 2).sum(axis=0) for i, each in enumerate(rows)])
    mean_others, pooled = np.empty_like(mean), np.empty_like(mean)
    for group in range(number):
        others = np.arange(number) != group
        mean_others[group] = np.average(mean[others], axis=0, weights=sizes[others])
        between = (sizes[others, None] * (mean[others] - mean_others[group]) ** 2).sum(axis=0)
        pooled[group] = np.sqrt((squares.sum(axis=0) + between) / max(len(values) - 2, 1))
    ks = np.stack([_distances(column, groups, sizes) for column in held.T], axis=1)
    return mean_others, mean, standardise(mean - mean_others, pooled), ks


def _distances(
    values: Float[np.ndarray, "n"], groups: Int[np.ndarray, "n"], sizes: Int[np.ndarray, "s"]
) -> Float[np.ndarray, "s"]:
    """Return the largest distance of each group's distribution function from that of all others."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    below, upto = _run_bounds(ordered[1:] != ordered[:-1])
    run = below  # the same for equal values, and for them only
    by_group = np.argsort(groups[order], kind="stable")
    group = groups[order][by_group]
    starts = np.cumsum(sizes) - sizes
    changes = (group[1:] != group[:-1]) | (run[by_group][1:] != run[by_group][:-1])
    group_below, group_upto = (bound - starts[group] for bound in _run_bounds(changes))
    size, rest = sizes[group], len(values) - sizes[group]
    at = np.abs(group_upto / size - (upto[by_group] - group_upto) / rest)
    before = np.abs(group_below / size - (below[by_group] - group_below) / rest)
    return np.asarray(np.maximum.reduceat(np.maximum(at, before), starts))


def _run_bounds(changes: np.ndarray) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Return for each item the first item of its run, and the first item behind it."""
    firsts = np.flatnonzero(np.concatenate([[True], changes]))
    lengths = np.diff(np.append(firsts, len(changes) + 1))
    return np.repeat(firsts, lengths), np.repeat(firsts + lengths, lengths)
