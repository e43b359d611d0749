"""Rank statistics of two maps over spots, and p-values that hold for a whole table of comparisons.

    rho = Pearson correlation of the midranks;  AUC = (sum of midranks of the positives - P (P + 1) / 2) / (P N)
    p   = (1 + #{|T*| >= |T|}) / (1 + draws),   p_table = (1 + #{max_c |z*_c| >= |z_c|}) / (1 + draws)

z is a statistic divided by the standard deviation of its null, so that comparisons of few spots do not decide the
maximum alone. Weights count how often a spot is in a resample. Source of the maximum: Westfall and Young,
Resampling-Based Multiple Testing, 1993.

Shape legend: n spots, b resamples, c comparisons, d draws.
"""

import numpy as np
from jaxtyping import Bool, Float, Real


def weighted_ranks(values: Float[np.ndarray, "n"], weights: Real[np.ndarray, "b n"]) -> Float[np.ndarray, "b n"]:
    """Return midranks of values of which each stands `weights` times in a resample.

    Examples
    --------
    >>> weighted_ranks(np.array([3.0, 1.0, 3.0]), np.array([[1, 1, 1], [2, 1, 0]])).tolist()
    [[2.5, 1.0, 2.5], [2.5, 1.0, 2.5]]
    """
    order = np.argsort(values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))  # of each group of equal values
    group = np.empty(len(values), int)
    group[order] = np.searchsorted(last, np.arange(len(values)))
    upto = np.cumsum(weights[:, order], axis=1, dtype=float)[:, last]
    below = np.concatenate([np.zeros((len(weights), 1)), upto[:, :-1]], axis=1)
    ranks: np.ndarray = ((below + upto + 1) / 2)[:, group]
    return ranks


def spearman(
    x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], weights: Real[np.ndarray, "b n"]
) -> Float[np.ndarray, "b"]:
    """Return the rank correlation of each resample; NaN where one of the two is constant."""
    total = np.maximum(weights.sum(1, keepdims=True), 1)
    centred = [ranks - (total + 1) / 2 for ranks in (weighted_ranks(x, weights), weighted_ranks(y, weights))]
    covariance, square_x, square_y = (
        (weights * a * b).sum(1) for a, b in ((centred[0], centred[1]), (centred[0],) * 2, (centred[1],) * 2)
    )
    scale = np.sqrt(square_x * square_y)
    correlation: np.ndarray = np.where(scale > 0, covariance / np.where(scale > 0, scale, 1), np.nan)
    return correlation


def auc(
    x: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"], weights: Real[np.ndarray, "b n"]
) -> Float[np.ndarray, "b"]:
    """Return the area under the ROC curve of each resample; NaN where there is no positive or no negative spot."""
    ranks = weighted_ranks(x, weights)
    positives, negatives = (weights[:, mask].sum(1).astype(float) for mask in (positive, ~positive))
    sums = (weights * ranks)[:, positive].sum(1) - positives * (positives + 1) / 2
    pairs = positives * negatives
    area: np.ndarray = np.where(pairs > 0, sums / np.where(pairs > 0, pairs, 1), np.nan)
    return area


def p_values(observed: Float[np.ndarray, "c"], null: Float[np.ndarray, "c d"]) -> Float[np.ndarray, "c"]:
    """Return two-sided p-values of statistics that are zero without association; missing draws do not count."""
    known = np.isfinite(null).sum(1)
    larger = (np.abs(null) >= np.abs(observed)[:, None] - 1e-12).sum(1)
    return np.where(np.isfinite(observed) & (known > 0), (1 + larger) / (1 + known), np.nan)


def table_p_values(
    observed: Float[np.ndarray, "c"], null: Float[np.ndarray, "c d"], step_down: bool = False
) -> Float[np.ndarray, "c"]:
    """Return p-values corrected over all comparisons of a table by the maximum of the standardised statistics.

    Parameters
    ----------
    null : array, c d
        Draws are the same moves for all comparisons, so that the dependence between them is kept.
    step_down : bool
        Compare each statistic with the maximum over those that are not larger (free step-down): more power.
    """
    result = np.full(len(observed), np.nan)
    known = np.isfinite(null)
    squares = np.where(known, null, 0.0) ** 2
    deviation = np.sqrt(squares.sum(1) / np.maximum(known.sum(1), 1))
    usable = np.flatnonzero(np.isfinite(observed) & (deviation > 0))
    if not len(usable):
        return result
    z = np.abs(observed[usable]) / deviation[usable]
    drawn = np.nan_to_num(np.abs(null[usable]) / deviation[usable, None], nan=0.0)
    order = np.argsort(-z)
    largest = np.maximum.accumulate(drawn[order][::-1], axis=0)[::-1] if step_down else drawn.max(0)[None]
    p = (1 + (largest >= z[order][:, None] - 1e-12).sum(1)) / (1 + drawn.shape[1])
    result[usable[order]] = np.maximum.accumulate(p)
    return result


def interval(resampled: Float[np.ndarray, "c b"], confidence: float) -> Float[np.ndarray, "2 c"]:
    """Return the ends of the percentile interval; NaN where over a twentieth of the resamples is undefined."""
    tail = (1 - confidence) / 2
    undefined = np.isfinite(resampled).mean(1) < 0.95
    filled = np.where(undefined[:, None], 0.0, resampled)
    if not resampled.size:
        return np.full((2, len(resampled)), np.nan)
    ends: np.ndarray = np.nanquantile(filled, [tail, 1 - tail], axis=1)
    ends[:, undefined] = np.nan
    return ends
