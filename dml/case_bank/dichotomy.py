"""Survival refined by halving the time axis: at every node the model's probability is mixed with the neighbours'.

    intervals  (0, t_1], (t_1, t_2], ..., (t_T, inf)          leaves of a binary tree, halved from the top
    node       p = P(beyond its middle | inside of it) = (1 - w) p_model + w p_neighbours

The weight w of a node is the one of least squared error over patients whose leaf is known, each weighted by the inverse
probability to be uncensored (Graf et al., Statistics in Medicine 1999). It must be fitted on other patients than it is
used for. After the halving of time in SurvAgent (arXiv 2511.16635), without its language model.

Shape legend: n patients, t horizons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from dml.evaluation.metrics.kaplan_meier import censoring_curve

WEIGHTS = np.linspace(0, 1, 21)
"""Weights of the neighbours that are tried."""
MIN_PATIENTS = 10
"""Patients with a known leaf inside a node, from which its weight is fitted; else the model decides alone."""
Node = tuple[int, int, int]
"""First and last leaf, and the last leaf of the first half."""


def nodes_of(leaves: int) -> list[Node]:
    """Return the nodes of a tree of halved intervals, from the top.

    Examples
    --------
    >>> nodes_of(5)
    [(0, 4, 1), (0, 1, 0), (2, 4, 2), (3, 4, 3)]
    """
    waiting, nodes = [(0, leaves - 1)], []
    while waiting:
        first, last = waiting.pop(0)
        if first == last:
            continue
        middle = first + (last - first + 1) // 2 - 1
        nodes.append((first, last, middle))
        waiting += [(first, middle), (middle + 1, last)]
    return nodes


@dataclass(frozen=True, slots=True)
class Dichotomy:
    """Fitted weights of the neighbours, one a node."""

    weights: dict[Node, float]

    @classmethod
    def fit(
        cls,
        model: Float[np.ndarray, "n t"],
        neighbours: Float[np.ndarray, "n t"],
        days: Float[np.ndarray, "n"],
        event: Bool[np.ndarray, "n"],
        horizons: Sequence[float],
    ) -> "Dichotomy":
        """Fit on patients whose two predictions are out of fold.

        Parameters
        ----------
        model, neighbours : array, n t
            Survival at the horizons.
        days, event
            Follow-up.
        horizons : sequence of float
            Days, ascending.
        """
        leaf, certainty = _leaves(days, event, horizons)
        one, other = _interval_masses(model), _interval_masses(neighbours)
        weights = {}
        for node in nodes_of(model.shape[1] + 1):
            first, last, middle = node
            inside = (certainty > 0) & (leaf >= first) & (leaf <= last)
            weights[node] = 0.0
            if inside.sum() >= MIN_PATIENTS:
                p, q = (_conditional(masses[inside], node) for masses in (one, other))
                beyond = (leaf[inside] > middle).astype(float)
                errors = [(certainty[inside] * ((1 - w) * p + w * q - beyond) ** 2).sum() for w in WEIGHTS]
                weights[node] = float(WEIGHTS[int(np.argmin(errors))])
        return cls(weights)

    def __call__(
        self, model: Float[np.ndarray, "n t"], neighbours: Float[np.ndarray, "n t"]
    ) -> Float[np.ndarray, "n t"]:
        """Return survival at the horizons."""
        one, other = _interval_masses(model), _interval_masses(neighbours)
        masses = np.ones_like(one)
        for node, w in self.weights.items():
            first, last, middle = node
            p = (1 - w) * _conditional(one, node) + w * _conditional(other, node)
            masses[:, first : middle + 1] *= 1 - p[:, None]
            masses[:, middle + 1 : last + 1] *= p[:, None]
        return np.asarray(1 - np.cumsum(masses[:, :-1], axis=1))


def _interval_masses(survival: np.ndarray) -> np.ndarray:
    """Return the probability to die in each interval, the last one beyond all horizons."""
    edges = np.concatenate([np.ones((len(survival), 1)), survival, np.zeros((len(survival), 1))], axis=1)
    return np.asarray(np.maximum(-np.diff(edges, axis=1), 0))


def _conditional(masses: np.ndarray, node: Node) -> np.ndarray:
    """Return P(beyond the middle | inside); a half where the whole has no mass."""
    first, last, middle = node
    total, beyond = masses[:, first : last + 1].sum(axis=1), masses[:, middle + 1 : last + 1].sum(axis=1)
    return np.where(total > 1e-12, beyond / np.maximum(total, 1e-12), 0.5)


def _leaves(days: np.ndarray, event: np.ndarray, horizons: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of each patient's death, and its inverse censoring weight: 0 where it is not known."""
    uncensored = censoring_curve(days, event)
    leaf = np.searchsorted(np.asarray(horizons, float), days, side="left")
    beyond = days > horizons[-1]
    at = uncensored.at(np.where(beyond, float(horizons[-1]), days - 1e-9))
    certainty = np.where((event | beyond) & (at > 0), 1 / np.maximum(at, 1e-12), 0.0)
    return leaf, certainty
