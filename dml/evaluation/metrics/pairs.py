"""Sums over pairs of patients of the same fold, for many weightings at once, in n log n steps.

A pair has a first and a second patient, whose weights are multiplied. What is asked of each pair is whether the first
has the higher score, and sometimes whether the second's follow-up is the longer. Patients are sorted by follow-up. The
pairs of a block of neighbours in that order are a matrix; the others are split by the merges of a merge sort by score,
in which cumulative weights of those with the longer follow-up answer both questions at once.

Shape legend: r weightings, n patients, m items (a first or a second of some pair), f firsts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dml.evaluation.metrics import Index, Values, Vector, Weights, ratio

MAX_ELEMENTS = 4_000_000
"""Elements of an array of weightings by items: more weightings are done in parts."""
BLOCK = 1024
"""Items whose pairs are held as a matrix: below this, its product is faster than a merge."""


class PairSums(NamedTuple):
    """Weighted counts ``[r]`` of pairs: all, those whose first has the higher score, those of equal score."""

    counted: Values
    higher: Values
    equal: Values

    def __add__(self, other: "PairSums") -> "PairSums":  # type: ignore[override]
        """Add the pairs of others."""
        return PairSums(*(one + more for one, more in zip(self, other, strict=True)))

    @property
    def share_in_favour(self) -> Values:
        """Share of pairs whose first has the higher score, equal ones counted by half; NaN without a pair."""
        return ratio(self.higher + 0.5 * self.equal, self.counted)


def pair_sums(
    weights: Weights, score: Vector, fold: Index, *, first: Vector, second: Vector, follow_up: Vector | None = None,
    censored: Vector | None = None,
) -> PairSums:  # fmt: skip
    """Sum over all ordered pairs within a fold, each pair counted weight times weight.

    A patient drawn twice in a resample is two patients, so integer weights give exactly the value of the resample.

    Parameters
    ----------
    weights : [r n]
        How often each patient counts.
    score : [n]
        Compared between the two of a pair.
    fold : [n]
        Only patients of the same fold are paired: risks of different models are not comparable.
    first, second : [n]
        How much a patient counts as the first and as the second of a pair; not negative. Without `follow_up` nobody
        may be both.
    follow_up : [n], optional
        A pair counts only if the second's is longer, or equal and the second is among `censored`.
    censored : bool [n], optional
        Needed with `follow_up`.
    """
    weights = np.asarray(weights, float)
    total = PairSums(*(np.zeros(len(weights)) for _ in range(3)))
    for value in np.unique(fold):
        patients = np.flatnonzero(fold == value)
        i, j = patients[np.asarray(first)[patients] > 0], patients[np.asarray(second)[patients] > 0]
        if follow_up is None:
            items = _Items.unordered(i, j, score)
        else:
            items = _Items.by_follow_up(i, j, score, follow_up, np.asarray(censored, bool))
        rows = max(MAX_ELEMENTS // max(len(items.patient), 1), 1)
        parts = [_sum(weights[at : at + rows], items, first, second) for at in range(0, len(weights), rows)]
        total += PairSums(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    return total


@dataclass(frozen=True, slots=True)
class _Items:
    """Firsts and seconds of one fold, so ordered that the seconds of a first's pairs all stand before it."""

    patient: np.ndarray
    is_first: np.ndarray
    score: np.ndarray
    merges: bool

    @classmethod
    def unordered(cls, i: np.ndarray, j: np.ndarray, score: Vector) -> "_Items":
        """Order so that each first is paired with each second."""
        patient = np.concatenate([j, i])
        return cls(patient, np.arange(len(patient)) >= len(j), np.asarray(score)[patient], merges=False)

    @classmethod
    def by_follow_up(
        cls, i: np.ndarray, j: np.ndarray, score: Vector, follow_up: Vector, censored: np.ndarray
    ) -> "_Items":
        """Order by falling follow-up; on the same day the censored seconds, the firsts, the other seconds."""
        patient = np.concatenate([j, i])
        is_first = np.arange(len(patient)) >= len(j)
        within_day = np.where(is_first, 1, np.where(censored[patient], 0, 2))
        order = np.lexsort((within_day, -np.asarray(follow_up, float)[patient]))
        return cls(patient[order], is_first[order], np.asarray(score)[patient][order], merges=True)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the firsts and the seconds of each block of neighbours, by position."""
        for start in range(0, len(self.patient) if self.merges else 0, BLOCK):
            is_first = self.is_first[start : start + BLOCK]
            yield start + np.flatnonzero(is_first), start + np.flatnonzero(~is_first)

    def merge_steps(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield which halves each item is merged with, and whether it is in the left; other pairs are split once."""
        if not self.merges:
            yield np.zeros(len(self.patient), int), ~self.is_first
            return
        position, width = np.arange(len(self.patient)), BLOCK
        while width < len(position):
            yield position // (2 * width), (position // width) % 2 == 0
            width *= 2


def _sum(weights: np.ndarray, items: _Items, first: Vector, second: Vector) -> PairSums:
    firsts = np.flatnonzero(items.is_first)
    as_first = weights[:, items.patient[firsts]] * np.asarray(first)[items.patient[firsts]]
    as_second = weights[:, items.patient] * np.where(items.is_first, 0.0, np.asarray(second)[items.patient])
    before = np.cumsum(as_second, axis=1)[:, firsts]
    lower, equal = np.zeros_like(before), np.zeros_like(before)
    nth_first = np.cumsum(items.is_first) - 1
    for i, j in items.blocks():
        earlier, score = j < i[:, None], items.score
        for sums, holds in ((lower, score[j] < score[i][:, None]), (equal, score[j] == score[i][:, None])):
            sums[:, nth_first[i]] += as_second[:, j] @ (earlier & holds).T.astype(float)
    for block, left in items.merge_steps():
        order = np.lexsort((items.score, block))
        asked = np.flatnonzero((items.is_first & ~left)[order])
        if not len(asked):
            continue
        run_starts, run_ends = _runs(block[order], items.score[order])
        block_starts = np.searchsorted(block[order], block[order][asked])
        below = np.zeros((len(weights), len(order) + 1))
        np.cumsum((as_second * (left & ~items.is_first))[:, order], axis=1, out=below[:, 1:])
        at_start = below[:, run_starts[asked]]
        columns = nth_first[order[asked]]
        lower[:, columns] += at_start - below[:, block_starts]
        equal[:, columns] += below[:, run_ends[asked]] - at_start
    return PairSums(*(np.asarray(np.einsum("rf,rf->r", as_first, part)) for part in (before, lower, equal)))


def _runs(block: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the run of equal block and score that each item belongs to starts, and where it ends."""
    changes = np.flatnonzero((block[1:] != block[:-1]) | (score[1:] != score[:-1])) + 1
    edges = np.concatenate([[0], changes, [len(block)]])
    run = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    return edges[run], edges[run + 1]
