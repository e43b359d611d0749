"""Near-duplicate patients: the same slide or expression profile submitted twice with small changes.

Exact copies are detected by hash (`feature_expectations`). The comparison here survives another tile order, a subset of
tiles, other rounding or a second scan pass: most tokens of one bag have a near twin in the other.

Nearest neighbours are searched in the principal components that separate most rows, where no two rows are further
from each other than they are: the time grows with the number of rows and not with its square.

Shape legend: n, m tiles; d width of a token; p patients; g genes; c components.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.spatial import cKDTree
from sklearn.utils.extmath import randomized_svd

from dml.checks.bag_summaries import BagSummary
from dml.checks.token_sketch import sampled_rows, usual_distance

N_NEIGHBOURS = 3
"""Bags with the nearest means that each bag is compared with, token by token."""
TWIN_DISTANCE = 0.1
"""Two tokens are twins within this share of the distance that tokens of the bag usually have."""
MIN_SHARED_TOKENS = 0.5
"""Share of tokens with a twin from which bags are near duplicates."""
MIN_CORRELATION = 0.99
"""Of two profiles whose genes are centred, scaled and winsorised; of two people it is near 0."""
MIN_AGREEING = 0.9
"""Share of genes that must be alike besides; of two people about a quarter is."""
AGREEMENT = 0.5
"""Robust standard deviations up to which a gene of two profiles is alike."""
WINSOR_LIMIT = 4.0
"""Robust standard deviations at which values are cut: one gene must not make two profiles alike."""
MIN_GENES = 20
"""Genes that vary, from which profiles are compared."""
COMPONENTS = 8
"""Principal components in which neighbours are searched."""
TABLES, BITS = 24, 16
"""Hash tables, and bits of a row in each: of profiles with `MIN_CORRELATION` a bit is the same with 95 %, so that they
share no table with 2e-7; those of two people do by chance once in 2,700."""
N_PROBED = 200
"""Rows from which that is decided."""
MAX_CLOSE = 32
"""Mean number of rows within the radius in `COMPONENTS`, above which rows are hashed."""
N_CANDIDATES = 16
"""Neighbours in these components whose distance in all dimensions is computed, per bag of a patient."""

Tokens = Float[np.ndarray, "n d"]


def shared_tokens(a: Tokens, b: Tokens) -> float:
    """Return the share of a's sampled tokens (`sampled_rows`) that have a twin in b."""
    chosen = a[sampled_rows(len(a))].astype(np.float64)
    other = b.astype(np.float64)
    usual = usual_distance(chosen)
    squares = (chosen**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * chosen @ other.T
    nearest = np.sqrt(np.maximum(squares, 0.0)).min(axis=1)
    return float((nearest <= TWIN_DISTANCE * usual).mean())


def near_duplicate_bags(summaries: list[BagSummary], read: Callable[[str], Tokens]) -> dict[str, str]:
    """Return slide -> slide of another patient with nearly the same features.

    Parameters
    ----------
    summaries : list of BagSummary
        Bags of one encoder and resolution.
    read : callable
        slide_id -> tokens, for those that are to be compared: all whose sketches do not exclude twins.
    """
    if len(summaries) < 2:
        return {}
    means = np.stack([each.mean for each in summaries])
    bags_of = Counter(each.patient_id for each in summaries)
    candidates = _nearest(means, N_CANDIDATES + max(bags_of.values()))
    duplicates: dict[str, str] = {}
    for i, one in enumerate(summaries):
        others = [j for j in candidates[i] if summaries[j].patient_id != one.patient_id]
        distance = np.linalg.norm(means[others] - means[i], axis=1)
        for k in np.argsort(distance, kind="stable")[:N_NEIGHBOURS]:
            other = summaries[others[k]]
            limit = max(one.dispersion, other.dispersion, TWIN_DISTANCE * float(np.linalg.norm(means[i])))
            if distance[k] >= limit or one.slide_id in duplicates:
                continue
            if not _may_share(one, other):
                continue
            if shared_tokens(read(one.slide_id), read(other.slide_id)) >= MIN_SHARED_TOKENS:
                duplicates[one.slide_id] = other.slide_id
    return duplicates


def _may_share(one: BagSummary, other: BagSummary) -> bool:
    """Whether one's tokens can have enough twins in the other's: what the sketches exclude need not be read."""
    if one.sketch is None or other.sketch is None:
        return True
    return one.sketch.most_shared(other.sketch, TWIN_DISTANCE) >= MIN_SHARED_TOKENS


def duplicate_profiles(patient_ids: tuple[str, ...], values: Float[np.ndarray, "p g"]) -> pd.Series:
    """Name for each patient another with the same expression profile and how alike they are, or ''.

    Profiles are compared gene by gene in robust standard deviations from the median, winsorised: published z-scores of
    single genes reach thousands, and two patients who share one such value are not one.
    """
    twins = pd.Series("", index=list(patient_ids), dtype=object)
    if len(patient_ids) < 2 or not np.isfinite(values).all():
        return twins
    centred = values - np.median(values, axis=0)
    scale = 1.4826 * np.median(np.abs(centred), axis=0)
    varies = scale > 0
    if varies.sum() < MIN_GENES:
        return twins
    scaled = np.clip(centred[:, varies] / scale[varies], -WINSOR_LIMIT, WINSOR_LIMIT)
    scaled -= scaled.mean(axis=1, keepdims=True)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit = np.divide(scaled, length, out=np.zeros_like(scaled), where=length > 0)
    for i, close in enumerate(_within(unit, np.sqrt(2 * (1 - MIN_CORRELATION)))):
        others = [j for j in close if j != i]
        correlation = unit[others] @ unit[i]
        if not len(others) or correlation.max() < MIN_CORRELATION:
            continue
        j = others[int(correlation.argmax())]
        agreeing = float((np.abs(scaled[i] - scaled[j]) <= AGREEMENT).mean())
        if agreeing >= MIN_AGREEING:
            twins.iloc[i] = f"{patient_ids[j]} (correlation {correlation.max():.3f}, {agreeing:.0%} of genes agree)"
    return twins


def _nearest(rows: Float[np.ndarray, "p d"], n: int) -> list[list[int]]:
    """Return the n rows that are nearest to each row in its first components, itself left out, in their order."""
    components = _components(rows)
    _, indices = cKDTree(components).query(components, k=min(n + 1, len(rows)))
    return [sorted(int(j) for j in close if j != i) for i, close in enumerate(indices)]


def _within(rows: Float[np.ndarray, "p g"], radius: float) -> list[list[int]]:
    """Return the rows within a radius of each row, itself included, besides others that are further away."""
    components = _components(rows)
    tree = cKDTree(components)
    some = components[np.linspace(0, len(rows) - 1, min(len(rows), N_PROBED)).round().astype(int)]
    if tree.query_ball_point(some, radius, return_length=True).mean() > MAX_CLOSE:
        return _within_hashed(rows)
    return [sorted(close) for close in tree.query_ball_point(components, radius * (1 + 1e-9))]


def _within_hashed(rows: Float[np.ndarray, "p g"]) -> list[list[int]]:
    """Return the rows with the same bits as each in one of `TABLES`, itself included.

    A bit is the side of the median on which a row is in a random direction (locality-sensitive hashing, Charikar 2002).
    Without structure in the rows a tree in few components excludes nobody; bits differ for half of all pairs.
    """
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(rows.shape[1], TABLES * BITS)).astype(np.float32)
    sides = rows.astype(np.float32) @ directions
    bits = (sides > np.median(sides, axis=0)).reshape(len(rows), TABLES, BITS)
    keys = bits @ (1 << np.arange(BITS))
    close: list[set[int]] = [{i} for i in range(len(rows))]
    for column in keys.T:
        order = np.argsort(column, kind="stable")
        starts = np.flatnonzero(np.diff(column[order], prepend=-1))
        ends = np.append(starts[1:], len(order))
        for at in np.flatnonzero(ends - starts > 1):
            group = order[starts[at] : ends[at]].tolist()
            for i in group:
                close[i].update(group)
    return [sorted(each) for each in close]


def _components(rows: Float[np.ndarray, "p d"]) -> Float[np.ndarray, "p c"]:
    """Project rows on their first principal directions, which are orthonormal: no distance grows."""
    centred = rows - rows.mean(axis=0)
    number = min(COMPONENTS, *centred.shape)
    _, _, directions = randomized_svd(centred, n_components=number, random_state=0)
    return np.asarray(centred @ directions.T)
