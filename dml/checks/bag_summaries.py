"""Feature bags in brief: enough to see which are alike, and how sites and cohorts differ, without keeping all tokens.

Shape legend: n tokens, d width, p patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from dml.data.feature_store import bag_path, read_features


@dataclass(frozen=True, slots=True)
class Sketch:
    """A bag in brief: whose it is, number and mean of its tokens [d], and their mean distance from it."""

    slide_id: str
    patient_id: str
    tokens: int
    mean: NDArray[np.float64]
    spread: float


def sketch(slide_id: str, patient_id: str, tokens: Float[np.ndarray, "n d"]) -> Sketch:
    """Describe a bag."""
    mean = tokens.mean(axis=0, dtype=np.float64)
    spread = np.linalg.norm(tokens.astype(np.float32) - mean.astype(np.float32), axis=1).mean(dtype=np.float64)
    return Sketch(slide_id, patient_id, len(tokens), mean, float(spread))


def read_sketches(features: Path, encoder: str, slides: pd.DataFrame, mpp: float) -> list[Sketch]:
    """Describe the bags of slides (slide_id, patient_id, mpp) at one resolution; slides of nobody are left out."""
    rows = slides[np.isclose(slides["mpp"].astype(float), mpp)].dropna(subset=["patient_id"])
    named = zip(rows["slide_id"], rows["patient_id"], strict=True)
    return [sketch(s, p, read_features(bag_path(features, encoder, mpp, s))[0].numpy()) for s, p in named]


def by_patient(sketches: Sequence[Sketch]) -> tuple[list[str], Float[np.ndarray, "p d"]]:
    """Return patients, sorted, and the mean of all their tokens."""
    ids = sorted({each.patient_id for each in sketches})
    own = [[each for each in sketches if each.patient_id == patient] for patient in ids]
    means = [np.average([s.mean for s in bags], axis=0, weights=[s.tokens for s in bags]) for bags in own]
    return ids, np.stack(means) if means else np.zeros((0, 0))
