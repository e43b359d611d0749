"""Ranks of models over cohorts, and whether they differ (Demsar, JMLR 2006): Friedman, Nemenyi, Wilcoxon with Holm.

Cohorts are the observations, so few of them show nothing: among N cohorts no pair of models can have a smaller p by
Wilcoxon's signed ranks than 2^(1 - N), and below six cohorts that is above 0.05.

Shape legend: n cohorts, k models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from dml.evaluation.intervals import holm

MIN_MODELS, MIN_COHORTS = 3, 2
"""Models and cohorts from which Friedman's test is defined."""
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class RankComparison:
    """Ranks of some models over cohorts.

    Attributes
    ----------
    models : tuple of str
        From the best mean rank to the worst.
    mean_ranks : tuple of float
        Their mean ranks, 1 is best; ties share a rank.
    cohorts : int
        How many.
    friedman_p : float or None
        p of no difference between any models; None where the test is not defined.
    critical_difference : float or None
        Nemenyi's: mean ranks that differ by less do not differ.
    groups : tuple of tuple of str
        Largest sets of models that do not differ by it.
    pairs : dict
        "a - b" to Wilcoxon's p, Holm-corrected over all pairs.
    """

    models: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    cohorts: int
    friedman_p: float | None
    critical_difference: float | None
    groups: tuple[tuple[str, ...], ...]
    pairs: dict[str, float]

    @property
    def least_p(self) -> float:
        """Smallest p that Wilcoxon's test can have with so many cohorts."""
        return float(min(1.0, 2.0 ** (1 - self.cohorts)))

    def verdict(self) -> str:
        """Say what the ranks show."""
        if self.cohorts < MIN_COHORTS or len(self.models) < MIN_MODELS:
            return f"Cohorts: {self.cohorts}, models: {len(self.models)}. Ranks only, there is nothing to test."
        limits = f"With {self.cohorts} cohorts no pair can have a smaller p by Wilcoxon's test than {self.least_p:.3g}"
        if self.least_p > SIGNIFICANT:
            limits += ": a difference cannot be shown, and that none is shown means nothing"
        shown = [pair for pair, p in self.pairs.items() if p < SIGNIFICANT]
        pairs = f"Pairs that differ after Holm's correction: {', '.join(shown) or 'none'}."
        return f"{limits}. Friedman's test of no difference at all: p {self.friedman_p:.3f}. {pairs}"


def compare_ranks(
    values: Float[np.ndarray, "n k"], models: Sequence[str], higher_is_better: bool = True, confidence: float = 0.95
) -> RankComparison:
    """Rank models in each cohort and compare the ranks.

    Parameters
    ----------
    values : [n k]
        A metric of each model in each cohort.
    models : sequence of str
        Names of the columns.
    higher_is_better : bool
        Whether rank 1 is the highest value.
    confidence : float
        Of the critical difference.

    Examples
    --------
    >>> ranks = compare_ranks(np.array([[0.8, 0.7, 0.6], [0.9, 0.7, 0.8]]), ["a", "b", "c"])
    >>> ranks.models, ranks.mean_ranks
    (('a', 'b', 'c'), (1.0, 2.5, 2.5))
    """
    from scipy.stats import friedmanchisquare, rankdata

    n, k = values.shape
    ranks = rankdata(-values if higher_is_better else values, axis=1).mean(axis=0) if n else np.ones(k)
    order = np.argsort(ranks, kind="stable")
    tested = n >= MIN_COHORTS and k >= MIN_MODELS
    distinct = tested and bool(np.ptp(values, axis=1).any())  # of equal values everywhere there is no statistic
    p = float(friedmanchisquare(*values.T).pvalue) if distinct else (1.0 if tested else None)
    width = critical_difference(k, n, confidence) if tested else None
    names, means = [models[i] for i in order], [float(ranks[i]) for i in order]
    groups = undistinguished(names, means, width) if width is not None else []
    pairs = _pairs(values, models) if tested else {}
    return RankComparison(tuple(names), tuple(means), n, p, width, tuple(groups), pairs)


def critical_difference(models: int, cohorts: int, confidence: float = 0.95) -> float:
    """Return Nemenyi's critical difference of mean ranks.

    Examples
    --------
    >>> round(critical_difference(5, 30), 2)
    1.11
    """
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(confidence, models, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(models * (models + 1) / (6 * cohorts)))


def undistinguished(models: Sequence[str], mean_ranks: Sequence[float], width: float) -> list[tuple[str, ...]]:
    """Return the largest sets of two or more neighbours in rank that lie within a width.

    Examples
    --------
    >>> undistinguished(["a", "b", "c"], [1.0, 1.8, 2.9], 1.2)
    [('a', 'b'), ('b', 'c')]
    """
    groups: list[tuple[int, int]] = []
    for start, first in enumerate(mean_ranks):
        end = max(i for i, rank in enumerate(mean_ranks) if rank - first < width)
        if end > start and (not groups or end > groups[-1][1]):
            groups.append((start, end))
    return [tuple(models[start : end + 1]) for start, end in groups]


def _pairs(values: np.ndarray, models: Sequence[str]) -> dict[str, float]:
    from scipy.stats import wilcoxon

    raw = {}
    for i, j in combinations(range(len(models)), 2):
        differences = values[:, i] - values[:, j]
        equal = not np.any(differences)
        raw[f"{models[i]} - {models[j]}"] = 1.0 if equal else float(wilcoxon(differences, method="exact").pvalue)
    return holm(raw)
