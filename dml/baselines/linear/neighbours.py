"""Nearest-neighbour baselines: the outcomes of the 30 most similar training patients, in principal components.

Kaplan-Meier of the neighbours, the shares of their classes, or their mean and quantiles. Nothing is fitted but the
components, so this is what similarity alone tells. Source of the estimator: Beran 1981, with uniform weights; Chen,
Foundations and Trends in Machine Learning 2024 (survival of nearest neighbours).

Shape legend: n patients, k columns, c classes, t days.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy.spatial import cKDTree

from dml.core.tasks import INTERVAL_ENDS
from dml.core.types import Case, Source
from dml.models.entry import ModelEntry

N_NEIGHBOURS = 30
"""Neighbours whose outcomes are summarised; of a smaller training set, half of it."""
_NAMES: dict[Source, str] = {"slide": "the mean of the slide's tile features", "genes": "the transcriptome"}


def _entry(*sources: Source) -> ModelEntry:
    return ModelEntry(
        "_".join(("neighbours", *sources)),
        label=f"{N_NEIGHBOURS} neighbours: {' + '.join(sources)}",
        description=f"Outcomes of the {N_NEIGHBOURS} training patients nearest in components of "
        f"{' and '.join(_NAMES[source] for source in sources)}",
        family="linear",
        inputs=sources,
        requires=sources,
    )


MODELS = (_entry("slide"), _entry("genes"), _entry("slide", "genes"))
NAMES = frozenset(model.name for model in MODELS)


@dataclass(frozen=True, slots=True)
class _Nearest:
    """The nearest of some rows."""

    tree: cKDTree
    count: int

    @classmethod
    def of(cls, columns: Float[np.ndarray, "n k"]) -> "_Nearest":
        return cls(cKDTree(columns), max(1, min(N_NEIGHBOURS, len(columns) // 2)))

    def __call__(self, columns: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "n _"]:
        if not len(columns):
            return np.zeros((0, self.count), int)
        return np.asarray(self.tree.query(columns, k=self.count)[1]).reshape(len(columns), self.count)

    def describe(self, kind: str) -> dict[str, Any]:
        return {"kind": kind, "neighbours": self.count, "patients": int(self.tree.n)}


@dataclass(frozen=True, slots=True)
class NeighbourCurves:
    """Kaplan-Meier curve of the neighbours; the risk is their restricted mean survival time, negative."""

    nearest: _Nearest
    days: Real[np.ndarray, "n"]
    event: Bool[np.ndarray, "n"]

    @classmethod
    def fit(cls, columns: Float[np.ndarray, "n k"], days: Any, event: Any) -> "NeighbourCurves":
        """Remember training patients."""
        return cls(_Nearest.of(columns), np.asarray(days, float), np.asarray(event, bool))

    def survival(self, columns: Float[np.ndarray, "n k"], days: Sequence[int]) -> Float[np.ndarray, "n t"]:
        """Probability to be alive after some days."""
        rows = [self._curve(i) for i in self.nearest(columns)]
        values = [s[np.searchsorted(d, days, side="right")] for d, s in rows]
        return np.array(values).reshape(len(columns), len(days))

    def risk(self, columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n"]:
        """Return years of restricted mean survival, up to the last training death, with the sign of a risk."""
        tau = float(self.days[self.event].max(initial=0.0)) or float(self.days.max())
        means = []
        for steps, survival in (self._curve(i) for i in self.nearest(columns)):
            inside = steps[steps < tau]
            edges = np.concatenate([[0.0], inside, [tau]])
            means.append(float((np.diff(edges) * survival[: len(inside) + 1]).sum()))
        return -np.array(means, float) / 365.25

    def _curve(self, index: Int[np.ndarray, "m"]) -> tuple[np.ndarray, np.ndarray]:
        """Days of the steps, and survival before the first and after each."""
        order = index[np.lexsort((~self.event[index], self.days[index]))]  # a death precedes a censoring of its day
        days, event = self.days[order], self.event[order]
        factors = np.where(event, 1 - 1 / np.arange(len(days), 0, -1), 1.0)
        return days, np.concatenate([[1.0], np.cumprod(factors)])

    def describe(self) -> dict[str, Any]:
        """Return the settings for model.json."""
        return self.nearest.describe("neighbour_kaplan_meier")


@dataclass(frozen=True, slots=True)
class NeighbourShares:
    """Shares of the neighbours' classes, with one more patient in proportion to all, so that none is impossible."""

    nearest: _Nearest
    label: Int[np.ndarray, "n"]
    classes: tuple[str, ...]

    @classmethod
    def fit(
        cls, columns: Float[np.ndarray, "n k"], label: Int[np.ndarray, "n"], classes: Sequence[str]
    ) -> "NeighbourShares":
        """Remember training patients."""
        return cls(_Nearest.of(columns), label, tuple(classes))

    def probabilities(self, columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n c"]:
        """Probability of every class."""
        prior = np.bincount(self.label, minlength=len(self.classes)) / len(self.label)
        members = self.label[self.nearest(columns)][:, :, None] == np.arange(len(self.classes))
        return np.asarray((members.sum(axis=1) + prior) / (self.nearest.count + 1))

    def describe(self) -> dict[str, Any]:
        """Return the settings for model.json."""
        return {**self.nearest.describe("neighbour_shares"), "classes": list(self.classes)}


@dataclass(frozen=True, slots=True)
class NeighbourNumbers:
    """Mean of the neighbours' numbers, and the interval of their quantiles."""

    nearest: _Nearest
    values: Float[np.ndarray, "n"]

    @classmethod
    def fit(cls, columns: Float[np.ndarray, "n k"], values: Float[np.ndarray, "n"]) -> "NeighbourNumbers":
        """Remember training patients."""
        return cls(_Nearest.of(columns), values)

    def predict(self, columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n 3"]:
        """Return number and ends of its interval, which contains the number."""
        neighbours = self.values[self.nearest(columns)]
        mean, (low, high) = neighbours.mean(axis=1), np.quantile(neighbours, INTERVAL_ENDS, axis=1)
        return np.stack([mean, np.minimum(low, mean), np.maximum(high, mean)], axis=1)

    def describe(self) -> dict[str, Any]:
        """Return the settings for model.json."""
        return self.nearest.describe("neighbour_mean")


def fit_neighbours(columns: Float[np.ndarray, "n k"], cases: Sequence[Case], task: str, classes: Sequence[str]) -> Any:
    """Return the neighbours of a task as an estimator that a regression of it can use.

    Parameters
    ----------
    columns : array, n k
        Of `dml.linear_models.design_matrix`.
    task : str
        "survival", or a label.
    classes : sequence of str
        Of the label; none of a number.
    """
    if task == "survival":
        known = [case.survival for case in cases if case.survival is not None]
        return NeighbourCurves.fit(columns, [s.days for s in known], [s.event for s in known])
    if classes:
        label = np.array([list(classes).index(case.labels[task]) for case in cases], int)
        return NeighbourShares.fit(columns, label, classes)
    return NeighbourNumbers.fit(columns, np.array([case.values[task] for case in cases], float))
