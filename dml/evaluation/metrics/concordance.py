"""Harrell's and Uno's concordance index.

A pair is comparable when it is known who died first: patient i died, and j was followed longer, or was censored on
the same day. It is concordant when i had the higher risk; equal risks count one half. Pairs are formed within folds
only and pooled: the sum of concordant over the sum of comparable pairs.

Sources: Harrell et al., JAMA 1982; Uno et al., Statistics in Medicine 2011, equation 6.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.pairs import pair_sums, share_in_favour
from dml.evaluation.metrics.registry import metric


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Comparable pairs by the order of their risks; in `tied_time` of them death and censoring are on one day."""

    concordant: int
    discordant: int
    tied_risk: int
    tied_time: int

    @property
    def comparable(self) -> int:
        """Pairs of which it is known who died first."""
        return self.concordant + self.discordant + self.tied_risk

    @property
    def index(self) -> float:
        """Harrell's C, NaN without a comparable pair."""
        return (self.concordant + 0.5 * self.tied_risk) / self.comparable if self.comparable else float("nan")


def count_pairs(
    days: Real[np.ndarray, "n"], event: Bool[np.ndarray, "n"], risk: Real[np.ndarray, "n"], fold: Int[np.ndarray, "n"]
) -> PairCounts:
    """Count the comparable pairs of patients of the same fold, exactly."""

    def kernel(i: np.ndarray, j: np.ndarray) -> list[np.ndarray]:
        comparable = _comparable(days, event, i, j)
        higher, equal = risk[i][:, None] > risk[j], risk[i][:, None] == risk[j]
        same_day = days[i][:, None] == days[j]
        return [comparable & higher, comparable & ~higher & ~equal, comparable & equal, comparable & same_day]

    sums = pair_sums(unweighted(len(days)), fold, kernel, first=event)
    return PairCounts(*(round(float(total[0])) for total in sums))


@metric("c_index", kind="survival", label="Harrell C", order=10, leading=True, headline=True, main=True, compared=True,
        chance=0.5)  # fmt: skip
def harrell_c(
    weights: Real[np.ndarray, "r n"],
    *,
    days: Real[np.ndarray, "n"],
    event: Bool[np.ndarray, "n"],
    risk: Real[np.ndarray, "n"],
    fold: Int[np.ndarray, "n"],
) -> Float[np.ndarray, "r"]:
    """Harrell's C for many weightings of the patients.

    Parameters
    ----------
    weights : [r n]
        How often each patient counts.
    days, event : [n]
        Follow-up in days, and whether it ended with death.
    risk : [n]
        Higher = an earlier death is expected; only the order within a fold matters.
    fold : [n]
        Test fold of each patient.

    Returns
    -------
    [r]
        C in 0 to 1; NaN where no pair is comparable.

    Examples
    --------
    Three patients of one fold; the second is censored, so only the pairs that start with a death are comparable.

    >>> days, event = np.array([100, 200, 300]), np.array([True, False, True])
    >>> risk, fold = np.array([0.9, 0.1, 0.4]), np.zeros(3, int)
    >>> harrell_c(unweighted(3), days=days, event=event, risk=risk, fold=fold)
    array([1.])
    >>> harrell_c(unweighted(3), days=days, event=event, risk=-risk, fold=fold)
    array([0.])
    """
    return share_in_favour(weights, risk, fold, partial(_comparable, days, event), first=event)


@metric("c_uno", kind="survival", label="Uno C", order=20, main=True, compared=True, chance=0.5)
def uno_c(
    weights: Real[np.ndarray, "r n"],
    *,
    days: Real[np.ndarray, "n"],
    event: Bool[np.ndarray, "n"],
    risk: Real[np.ndarray, "n"],
    fold: Int[np.ndarray, "n"],
    uncensored: Float[np.ndarray, "n"],
    tau: float,
) -> Float[np.ndarray, "r"]:
    """Uno's C: each pair weighted by the inverse probability that the earlier patient was still under observation.

    Parameters
    ----------
    weights, days, event, risk, fold
        As for `harrell_c`.
    uncensored : [n]
        Probability, estimated on training patients, to be still uncensored at the patient's own `days`.
    tau : float
        Days; deaths at or after it do not start a pair. Must be reached by the training follow-up.

    Returns
    -------
    [r]
        C in 0 to 1; NaN where no pair is comparable.
    """
    counted = event & (days < tau) & (uncensored > 0)
    inverse = np.zeros(len(days))
    inverse[counted] = uncensored[counted] ** -2.0

    def weighted_pairs(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return np.asarray(_comparable(days, event, i, j) * inverse[i][:, None])

    return share_in_favour(weights, risk, fold, weighted_pairs, first=counted)


def _comparable(days: np.ndarray, event: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    later = days[i][:, None] < days[j]
    censored_same_day = (days[i][:, None] == days[j]) & ~event[j]
    return np.asarray(event[i][:, None] & (later | censored_same_day))
