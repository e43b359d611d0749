"""Discrimination at a horizon: the cumulative/dynamic area under the ROC curve.

Source: Uno et al., JASA 2007; Hung and Chiang, Canadian Journal of Statistics 2010.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from dml.evaluation.metrics.pairs import share_in_favour
from dml.evaluation.metrics.registry import metric


@metric("auc_{year}y", kind="survival", label="AUC at {year} y", order=30, chance=0.5)
def dynamic_auc(
    weights: Real[np.ndarray, "r n"],
    *,
    days: Real[np.ndarray, "n"],
    event: Bool[np.ndarray, "n"],
    risk: Real[np.ndarray, "n"],
    fold: Int[np.ndarray, "n"],
    uncensored: Float[np.ndarray, "n"],
    horizon: float,
) -> Float[np.ndarray, "r"]:
    """Probability that a patient who died within the horizon had a higher risk than one who lived past it.

    Pairs are formed within folds and pooled; each case is weighted by its inverse probability of being uncensored.

    Parameters
    ----------
    weights, days, event, risk, fold
        As for `dml.evaluation.metrics.concordance.harrell_c`.
    uncensored : [n]
        Probability, estimated on training patients, to be still uncensored at the patient's own `days`.
    horizon : float
        Days.

    Returns
    -------
    [r]
        AUC in 0 to 1; NaN without a case or without a control.
    """
    case = event & (days <= horizon) & (uncensored > 0)
    control = days > horizon
    inverse = np.zeros(len(case))
    inverse[case] = 1 / uncensored[case]
    return share_in_favour(weights, risk, fold, lambda i, j: inverse[i][:, None] * control[j], first=case)
