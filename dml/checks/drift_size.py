"""The size of a difference between two groups of patients."""

import numpy as np
from jaxtyping import Float


def difference(a: Float[np.ndarray, "n g"], b: Float[np.ndarray, "m g"]) -> Float[np.ndarray, "g"]:
    """Return the difference of the columns' means (b - a) in pooled standard deviations; 0 where nothing varies."""
    degrees = max(len(a) + len(b) - 2, 1)
    squares = ((a - a.mean(axis=0)) ** 2).sum(axis=0) + ((b - b.mean(axis=0)) ** 2).sum(axis=0)
    pooled = np.sqrt(squares / degrees)
    gap = b.mean(axis=0) - a.mean(axis=0)
    still = pooled < 1e-9 * np.maximum(1.0, np.abs(gap))
    constant = np.where(np.abs(gap) > 1e-9, np.copysign(np.inf, gap), 0.0)
    return np.asarray(np.where(still, constant, gap / np.where(still, 1.0, pooled)))
