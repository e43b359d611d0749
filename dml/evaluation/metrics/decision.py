"""Decision curves: whether acting on a probability does more good than treating everyone or no one.

Source: Vickers and Elkin, Medical Decision Making 2006; with censoring Vickers et al., BMC Med Inform Decis Mak 2008.
Shape legend: n patients, t thresholds.
"""

import numpy as np
from jaxtyping import Float

from dml.evaluation.metrics import Mask, Vector
from dml.evaluation.metrics.kaplan_meier import survival_curve


def net_benefit(probability: Vector, outcome: Mask, thresholds: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """Return true positives minus false positives at the threshold's odds, per patient, acting above each threshold."""
    acted = probability[None, :] > thresholds[:, None]
    right = (acted & outcome).mean(axis=1)
    wrong = (acted & ~outcome).mean(axis=1)
    return np.asarray(right - wrong * thresholds / (1 - thresholds))


def net_benefit_survival(
    probability: Vector, days: Vector, event: Mask, horizon: float, thresholds: Float[np.ndarray, "t"]
) -> Float[np.ndarray, "t"]:
    """Return the same for death within a horizon (days): deaths among those acted on are estimated by Kaplan-Meier."""
    benefit = np.zeros(len(thresholds))
    for k, threshold in enumerate(thresholds):
        acted = probability > threshold
        if not acted.any():
            continue
        died = 1 - float(survival_curve(days[acted], event[acted]).at(np.array(horizon)))
        benefit[k] = acted.mean() * (died - (1 - died) * threshold / (1 - threshold))
    return benefit
