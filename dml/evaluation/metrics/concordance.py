"""Discrimination of survival: Harrell's and Uno's concordance index, and the cumulative/dynamic AUC at a horizon.

A pair is comparable when it is known who died first: patient i died, and j was followed longer, or was censored on
the same day. It is concordant when i had the higher risk; equal risks count one half. Pairs are formed within folds
only and pooled: the sum of concordant over the sum of comparable pairs.

Sources: Harrell et al., JAMA 1982; Uno et al., Statistics in Medicine 2011, equation 6 (C); Uno et al., JASA 2007; Hung
and Chiang, Canadian Journal of Statistics 2010 (AUC).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dml.evaluation.metrics import Index, Mask, Values, Vector, Weights, unweighted
from dml.evaluation.metrics.pairs import pair_sums
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


def count_pairs(days: Vector, event: Mask, risk: Vector, fold: Index) -> PairCounts:
    """Count the comparable pairs of patients of the same fold, exactly."""
    once = unweighted(len(days))
    pairs = pair_sums(once, risk, fold, first=event, second=np.ones(len(days)), follow_up=days, censored=~event)
    concordant, tied = (round(float(part[0])) for part in (pairs.higher, pairs.equal))
    comparable = round(float(pairs.counted[0]))
    same_day = pd.DataFrame({"fold": fold, "days": days, "died": event, "censored": ~event})
    counts = same_day.groupby(["fold", "days"])[["died", "censored"]].sum()
    return PairCounts(
        concordant, comparable - concordant - tied, tied, int((counts["died"] * counts["censored"]).sum())
    )


@metric("c_index", kind="survival", label="Harrell C", order=10, leading=True, headline=True, main=True, compared=True,
        chance=0.5)  # fmt: skip
def harrell_c(weights: Weights, *, days: Vector, event: Mask, risk: Vector, fold: Index) -> Values:
    """Harrell's C, in 0 to 1; NaN where no pair is comparable.

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
    everyone = np.ones(len(days))
    pairs = pair_sums(weights, risk, fold, first=event, second=everyone, follow_up=days, censored=~event)
    return pairs.share_in_favour


@metric("c_uno", kind="survival", label="Uno C", order=20, main=True, compared=True, chance=0.5)
def uno_c(
    weights: Weights, *, days: Vector, event: Mask, risk: Vector, fold: Index, uncensored: Vector, tau: float
) -> Values:
    """Uno's C: each pair weighted by the inverse probability that the earlier patient was still under observation.

    Deaths at or after `tau` do not start a pair.
    """
    counted = event & (days < tau) & (uncensored > 0)
    inverse = np.zeros(len(days))
    inverse[counted] = uncensored[counted] ** -2.0

    everyone = np.ones(len(days))
    pairs = pair_sums(weights, risk, fold, first=inverse, second=everyone, follow_up=days, censored=~event)
    return pairs.share_in_favour


@metric("auc_{year}y", kind="survival", label="AUC at {year} y", order=30, chance=0.5)
def dynamic_auc(
    weights: Weights, *, days: Vector, event: Mask, risk: Vector, fold: Index, uncensored: Vector, horizon: float
) -> Values:
    """Probability that a patient who died within the horizon had a higher risk than one who lived past it.

    Pairs are formed within folds and pooled; each case is weighted by its inverse probability of being uncensored. NaN
    without a case or without a control.
    """
    case = event & (days <= horizon) & (uncensored > 0)
    control = days > horizon
    inverse = np.zeros(len(case))
    inverse[case] = 1 / uncensored[case]
    return pair_sums(weights, risk, fold, first=inverse, second=control).share_in_favour
