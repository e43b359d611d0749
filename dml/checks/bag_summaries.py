"""Bag summaries: enough to see which bags are alike, and how sites and cohorts differ, without keeping all tokens.

Shape legend: n tokens, d width, p patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from dml.checks.token_sketch import TokenSketch
from dml.data.feature_store import bag_path, read_features


@dataclass(frozen=True, slots=True)
class BagSummary:
    """Slide and patient of a bag, number and mean of its tokens [d], their mean distance from that mean, a sketch."""

    slide_id: str
    patient_id: str
    tokens: int
    mean: NDArray[np.float64]
    dispersion: float
    sketch: TokenSketch | None = None


def summarise_bag(
    slide_id: str, patient_id: str, tokens: Float[np.ndarray, "n d"], sketch: TokenSketch | None = None
) -> BagSummary:
    """Summarise a bag."""
    mean = tokens.mean(axis=0, dtype=np.float64)
    distances = np.linalg.norm(tokens.astype(np.float32) - mean.astype(np.float32), axis=1)
    return BagSummary(slide_id, patient_id, len(tokens), mean, float(distances.mean(dtype=np.float64)), sketch)


def read_bag_summaries(features: Path, encoder: str, slides: pd.DataFrame, mpp: float) -> list[BagSummary]:
    """Summarise the bags of slides (slide_id, patient_id, mpp) at one resolution; slides of nobody are left out."""
    rows = slides[np.isclose(slides["mpp"].astype(float), mpp)].dropna(subset=["patient_id"])
    pairs = zip(rows["slide_id"], rows["patient_id"], strict=True)
    return [summarise_bag(s, p, read_features(bag_path(features, encoder, mpp, s))[0].numpy()) for s, p in pairs]


def patient_means(summaries: Sequence[BagSummary]) -> tuple[list[str], Float[np.ndarray, "p d"]]:
    """Return patients, sorted, and the mean of all their tokens."""
    bags: dict[str, list[BagSummary]] = {}
    for each in summaries:
        bags.setdefault(each.patient_id, []).append(each)
    ids = sorted(bags)
    means = [np.average([s.mean for s in bags[id]], axis=0, weights=[s.tokens for s in bags[id]]) for id in ids]
    return ids, np.stack(means) if means else np.zeros((0, 0))
