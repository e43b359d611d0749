"""Patients whose data are too much alike to be two people's: one slide or transcriptome handed in twice, changed a bit.

Exact copies are found by hash (`feature_sheets`). What is looked for here survives another tile order, a subset of
tiles, other rounding or a second scan pass: most tokens of one bag have a near twin in the other.

Shape legend: n, m tiles; d width of a token; p patients; g genes.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float

from dml.checks.bag_summaries import Sketch

NEIGHBOURS = 3
"""Bags with the nearest means that each bag is compared with, token by token."""
SAMPLE = 64
"""Tokens of a bag that are looked for in another."""
NEAR = 0.1
"""Two tokens are twins within this share of the distance that tokens of the bag usually have."""
SHARED = 0.5
"""Share of tokens with a twin from which bags are near duplicates."""
SAME_TRANSCRIPTOME = 0.99
"""Correlation of what is left when the cohort's mean of each gene is taken away; of two people it is near 0."""
ENOUGH_GENES = 20

Tokens = Float[np.ndarray, "n d"]


def shared(a: Tokens, b: Tokens) -> float:
    """Return the share of a's tokens (of at most `SAMPLE`, evenly spaced) that have a twin in b."""
    chosen = a[np.linspace(0, len(a) - 1, min(len(a), SAMPLE)).round().astype(int)].astype(np.float64)
    other = b.astype(np.float64)
    usual = np.linalg.norm(chosen - chosen.mean(axis=0), axis=1).mean() * np.sqrt(2)
    if usual == 0:  # one token, or all alike: only what is nearly equal counts
        usual = float(np.linalg.norm(chosen, axis=1).mean())
    squares = (chosen**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * chosen @ other.T
    nearest = np.sqrt(np.maximum(squares, 0.0)).min(axis=1)
    return float((nearest <= NEAR * usual).mean())


def near_duplicates(sketches: list[Sketch], read: Callable[[str], Tokens]) -> dict[str, str]:
    """Return slide -> slide of another patient with nearly the same features.

    Parameters
    ----------
    sketches : list of Sketch
        Bags of one encoder and resolution.
    read : callable
        slide_id -> tokens, for those that are to be compared.
    """
    if len(sketches) < 2:
        return {}
    means = np.stack([each.mean for each in sketches])
    squares = (means**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * means @ means.T, 0.0))
    patients = np.array([each.patient_id for each in sketches])
    distance[patients[:, None] == patients] = np.inf
    found: dict[str, str] = {}
    for i, one in enumerate(sketches):
        for j in np.argsort(distance[i], kind="stable")[:NEIGHBOURS]:
            other = sketches[j]
            close = np.isfinite(distance[i, j]) and distance[i, j] < max(
                one.spread, other.spread, NEAR * squares[i] ** 0.5
            )
            if close and one.slide_id not in found and shared(read(one.slide_id), read(other.slide_id)) >= SHARED:
                found[one.slide_id] = other.slide_id
    return found


def same_transcriptome(patient_ids: tuple[str, ...], values: Float[np.ndarray, "p g"]) -> pd.Series:
    """Name for each patient another with the same transcriptome, or ''; nothing is said of fewer than 20 genes."""
    twins = pd.Series("", index=list(patient_ids), dtype=object)
    if len(patient_ids) < 2 or values.shape[1] < ENOUGH_GENES or not np.isfinite(values).all():
        return twins
    own = values - values.mean(axis=0, dtype=np.float64)
    centred = own - own.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    alike = unit @ unit.T
    np.fill_diagonal(alike, 0.0)
    for i in np.flatnonzero(alike.max(axis=1) >= SAME_TRANSCRIPTOME):
        twins.iloc[int(i)] = patient_ids[int(alike[i].argmax())]
    return twins
