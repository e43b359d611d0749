"""How much two representations of the same patients have in common.

Source: Szekely and Rizzo, Journal of Multivariate Analysis 2013 (bias-corrected distance correlation).
Shape legend: n patients, d and e dimensions.
"""

import numpy as np
from jaxtyping import Float


def distance_correlation(one: Float[np.ndarray, "n d"], other: Float[np.ndarray, "n e"]) -> float:
    """Bias-corrected squared distance correlation: 0 expected if independent, 1 if equal up to rotation and scale.

    Small samples of independent variables give values around 0, also negative ones; the plain statistic would be far
    above. NaN for fewer than four patients or where a representation does not vary.
    """
    if len(one) < 4:
        return float("nan")
    a, b = _centred(one), _centred(other)
    scale = (a * a).sum() * (b * b).sum()
    return float((a * b).sum() / np.sqrt(scale)) if scale > 0 else float("nan")


def _centred(rows: np.ndarray) -> np.ndarray:
    """U-centred distances: rows and columns sum to zero, the diagonal is zero."""
    n = len(rows)
    squared = (rows**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squared[:, None] + squared - 2 * rows @ rows.T, 0))
    np.fill_diagonal(distance, 0)
    sums = distance.sum(axis=0)
    centred = distance - sums[:, None] / (n - 2) - sums / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0)
    return np.asarray(centred)
