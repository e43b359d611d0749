"""Discrimination at a horizon: the cumulative/dynamic area under the ROC curve.

Source: Uno et al., JASA 2007; Hung and Chiang, Canadian Journal of Statistics 2010.
"""

from typing import Unpack

import numpy as np
from jaxtyping import Float, Real

from dml.evaluation.metrics.pairs import Ranked, share_in_favour


def dynamic_auc(
    weights: Real[np.ndarray, "r n"], *, uncensored: Float[np.ndarray, "n"], horizon: float, **ranked: Unpack[Ranked]
) -> Float[np.ndarray, "r"]:
    """Probability that who died within the horizon had a higher risk than who lived past it.

    Pairs are formed within folds and pooled; each case is weighted by its inverse probability of being uncensored.

    Parameters
    ----------
    weights : [r n]
        How often each patient counts.
    uncensored : [n]
        Probability, estimated on training patients, to be still uncensored at the patient's own `days`.
    horizon : float
        Days.
    **ranked
        days, event, risk and fold of each patient (`dml.evaluation.metrics.pairs.Ranked`).

    Returns
    -------
    [r]
        AUC in 0 to 1; NaN without a case or without a control.
    """
    case = ranked["event"] & (ranked["days"] <= horizon) & (uncensored > 0)
    control = ranked["days"] > horizon
    inverse = np.zeros(len(case))
    inverse[case] = 1 / uncensored[case]
    return share_in_favour(
        weights, ranked["risk"], ranked["fold"], lambda i, j: inverse[i][:, None] * control[j], first=case
    )
