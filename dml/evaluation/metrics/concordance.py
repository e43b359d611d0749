"""Harrell's and Uno's concordance index.

A pair is comparable when it is known who died first: patient i died, and j was followed longer, or was censored on
the same day. It is concordant when i had the higher risk; equal risks count one half. Pairs are formed within folds
only and pooled: the sum of concordant over the sum of comparable pairs.

Sources: Harrell et al., JAMA 1982; Uno et al., Statistics in Medicine 2011, equation 6.
"""

from dataclasses import dataclass
from functools import partial
from typing import Unpack

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.pairs import Ranked, pair_sums, share_in_favour


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Comparable pairs by what the risks say; `tied_time` of them are a death and a censoring on the same day."""

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
        known = _comparable(days, event, i, j)
        higher, equal = risk[i][:, None] > risk[j], risk[i][:, None] == risk[j]
        same_day = days[i][:, None] == days[j]
        return [known & higher, known & ~higher & ~equal, known & equal, known & same_day]

    sums = pair_sums(unweighted(len(days)), fold, kernel, first=event)
    return PairCounts(*(round(float(total[0])) for total in sums))


def harrell_c(weights: Real[np.ndarray, "r n"], **ranked: Unpack[Ranked]) -> Float[np.ndarray, "r"]:
    """Harrell's C for many weightings of the patients.

    Parameters
    ----------
    weights : [r n]
        How often each patient counts.
    **ranked
        days, event, risk and fold of each patient (`dml.evaluation.metrics.pairs.Ranked`).

    Returns
    -------
    [r]
        C in 0 to 1; NaN where no pair is comparable.
    """
    days, event = ranked["days"], ranked["event"]
    known = partial(_comparable, days, event)
    return share_in_favour(weights, ranked["risk"], ranked["fold"], known, first=event)


def uno_c(
    weights: Real[np.ndarray, "r n"], *, uncensored: Float[np.ndarray, "n"], tau: float, **ranked: Unpack[Ranked]
) -> Float[np.ndarray, "r"]:
    """Uno's C: each pair weighted by the inverse probability that the earlier patient was still under observation.

    Parameters
    ----------
    weights, **ranked
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
    days, event = ranked["days"], ranked["event"]
    counted = event & (days < tau) & (uncensored > 0)
    inverse = np.zeros(len(days))
    inverse[counted] = uncensored[counted] ** -2.0

    def known(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return np.asarray(_comparable(days, event, i, j) * inverse[i][:, None])

    return share_in_favour(weights, ranked["risk"], ranked["fold"], known, first=counted)


def _comparable(days: np.ndarray, event: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    later = days[i][:, None] < days[j]
    censored_same_day = (days[i][:, None] == days[j]) & ~event[j]
    return np.asarray(event[i][:, None] & (later | censored_same_day))
