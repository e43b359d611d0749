"""Sketches of bags: every token in a few directions, a hundredth of its bytes, to see which bags share no token.

Directions are orthonormal, so no two tokens are further apart in the sketch than they are: tokens without a near twin
in the sketch have none. Bags that may share tokens are still to be compared in full.

Shape legend: n, m tokens; d width; c directions.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

N_SAMPLED_TOKENS = 64
"""Tokens of a bag that are searched for in another."""
DIRECTIONS = 8
MAX_FITTED_TOKENS = 512
"""Tokens of one bag from which the directions are computed."""


def sampled_rows(number: int) -> np.ndarray:
    """Return the positions of at most `N_SAMPLED_TOKENS` tokens, evenly spaced."""
    return np.linspace(0, number - 1, min(number, N_SAMPLED_TOKENS)).round().astype(int)


def usual_distance(sampled: Float[np.ndarray, "n d"]) -> float:
    """Return the distance that sampled tokens (float64) usually have; their length if they are all alike."""
    usual = float(np.linalg.norm(sampled - sampled.mean(axis=0), axis=1).mean() * np.sqrt(2))
    return usual if usual > 0 else float(np.linalg.norm(sampled, axis=1).mean())


@dataclass(frozen=True, slots=True)
class TokenSketch:
    """Tokens of a bag [n, c] as float16, the error of their rounding, and their usual distance in all dimensions."""

    tokens: Float[np.ndarray, "n c"]
    error: float
    usual: float

    def most_shared(self, other: "TokenSketch", share: float) -> float:
        """Return a bound of the share of this bag's sampled tokens that have a twin within share x usual distance."""
        chosen = self.tokens[sampled_rows(len(self.tokens))].astype(np.float32)
        tokens = other.tokens.astype(np.float32)
        squares = (chosen**2).sum(axis=1)[:, None] + (tokens**2).sum(axis=1) - 2 * chosen @ tokens.T
        slack = 1e-6 * float((chosen**2).sum(axis=1).max() + (tokens**2).sum(axis=1).max()) * DIRECTIONS
        limit = share * self.usual * (1 + 1e-6) + self.error + other.error
        return float((squares.min(axis=1) <= limit**2 + slack).mean())


@dataclass(frozen=True, slots=True)
class Sketcher:
    """Directions [d, c] and centre [d] of the sketches of a cohort."""

    directions: Float[np.ndarray, "d c"]
    centre: Float[np.ndarray, "d"]

    @classmethod
    def fit(cls, tokens: Float[np.ndarray, "n d"]) -> "Sketcher":
        """Return the principal directions of a bag, in which most tokens are far from each other."""
        rows = np.linspace(0, len(tokens) - 1, min(len(tokens), MAX_FITTED_TOKENS)).round().astype(int)
        fitted = tokens[rows].astype(np.float64)
        centre = fitted.mean(axis=0)
        _, _, directions = np.linalg.svd(fitted - centre, full_matrices=False)
        return cls(directions[:DIRECTIONS].T, centre)

    def sketch(self, tokens: Float[np.ndarray, "n d"]) -> TokenSketch | None:
        """Sketch a bag; None where its width differs or it cannot be represented in float16."""
        if tokens.shape[1] != len(self.directions):
            return None
        exact = tokens.astype(np.float32) @ self.directions.astype(np.float32)
        exact -= (self.centre @ self.directions).astype(np.float32)
        if np.abs(exact).max(initial=0.0) > np.finfo(np.float16).max / 2:
            return None
        half = exact.astype(np.float16)
        scale = float(np.linalg.norm(tokens.astype(np.float32), axis=1).max(initial=0.0))
        error = float(np.linalg.norm(exact - half, axis=1).max(initial=0.0)) + 1e-5 * scale
        return TokenSketch(half, error, usual_distance(tokens[sampled_rows(len(tokens))].astype(np.float64)))


class Sketches:
    """Sketches of the bags of one resolution, in the directions of the first of them.

    Parameters
    ----------
    mpp : float
        Resolution whose bags are sketched (um/px); others are not compared.
    """

    def __init__(self, mpp: float) -> None:
        self.mpp = mpp
        self._sketcher: Sketcher | None = None

    def of(self, tokens: Float[np.ndarray, "n d"], mpp: float) -> TokenSketch | None:
        """Sketch a bag of this resolution; None for one of another."""
        if not np.isclose(mpp, self.mpp):
            return None
        if self._sketcher is None:
            self._sketcher = Sketcher.fit(tokens)
        return self._sketcher.sketch(tokens)
