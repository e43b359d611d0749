"""The quantities that are watched for drift: of each logged patient a number, and the same number of the reference.

What has to be fitted (directions of tokens, how usual a scanner is) is fitted to one half of the reference, and ranks
are among the other half: a patient who was fitted to is not like a new one.

Shape legend: p patients, d width of a token, c directions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from dml.inference.input_summary import (
    GENES_DEVIATION,
    GENES_MEAN,
    GENES_MEASURED,
    GENES_SKETCH,
    SCANNER,
    SLIDE_MPP,
    TILES,
    TISSUE_MM2,
    TISSUE_SHARE,
    TOKENS,
)

MIN_REFERENCE = 20
"""Patients of the reference that a quantity must be known of."""
DIRECTIONS = 4
"""Principal directions of the patients' mean tokens that are watched, beside the distance from all of them."""
NUMBERS = {
    "tissue": {TILES: "number of tiles", TISSUE_MM2: "tissue area (mm²)", TISSUE_SHARE: "tissue, share of the image"},
    "scan": {SLIDE_MPP: "microns per pixel of the scan"},
    "genes": {
        GENES_MEASURED: "model's genes measured, share",
        GENES_MEAN: "mean expression",
        GENES_DEVIATION: "spread of expression",
    },
}
"""Group to the columns that are watched as they are."""


class Quantity(NamedTuple):
    """One watched quantity: values of the reference, and of the log in order (NaN where it is not known)."""

    group: str
    label: str
    reference: Float[np.ndarray, "m"]
    stream: Float[np.ndarray, "p"]


@dataclass(frozen=True, slots=True)
class TokenDirections:
    """Mean [d], deviation [d] and principal directions [d c] of the mean tokens of some patients."""

    mean: Float[np.ndarray, "d"]
    deviation: Float[np.ndarray, "d"]
    directions: Float[np.ndarray, "d c"]

    @classmethod
    def fit(cls, tokens: Float[np.ndarray, "p d"]) -> "TokenDirections":
        """Fit to the mean tokens of some patients."""
        mean, deviation = tokens.mean(axis=0), tokens.std(axis=0)
        deviation = np.maximum(deviation, max(0.1 * float(np.median(deviation)), 1e-9))
        number = min(DIRECTIONS, len(tokens) // 5)
        _, _, rows = np.linalg.svd((tokens - mean) / deviation, full_matrices=False)
        return cls(mean, deviation, rows[:number].T)

    def __call__(self, tokens: Float[np.ndarray, "p d"]) -> Float[np.ndarray, "p k"]:
        """Return the coordinates along each direction, and the distance from their span as the last column."""
        scaled = (tokens - self.mean) / self.deviation
        along = scaled @ self.directions
        rest = np.sqrt(np.square(scaled - along @ self.directions.T).mean(axis=1))
        return np.column_stack([along, rest])


def input_quantities(reference: pd.DataFrame, log: pd.DataFrame) -> list[Quantity]:
    """Return every quantity that at least `MIN_REFERENCE` patients of the reference and one of the log have.

    Parameters
    ----------
    reference : DataFrame
        Summaries of inputs, a row a patient, in random order.
    log : DataFrame
        Logged predictions, a row a patient, in order.
    """
    every = [*_numbers(reference, log), *_tokens(reference, log), *_scanners(reference, log), *_sketch(reference, log)]
    return [
        each._replace(reference=each.reference[np.isfinite(each.reference)])
        for each in every
        if np.isfinite(each.reference).sum() >= MIN_REFERENCE and np.isfinite(each.stream).any()
    ]


def _numbers(reference: pd.DataFrame, log: pd.DataFrame) -> Iterator[Quantity]:
    for group, columns in NUMBERS.items():
        for column, label in columns.items():
            if column in reference and column in log:
                yield Quantity(group, label, *(table[column].to_numpy(float) for table in (reference, log)))


def _tokens(reference: pd.DataFrame, log: pd.DataFrame) -> Iterator[Quantity]:
    for column in (name for name in reference.columns if name.startswith(TOKENS) and name in log):
        known = _stack(reference[column].dropna())
        if len(known) < 2 * MIN_REFERENCE:
            continue
        fitted = TokenDirections.fit(known[::2])
        before, after = fitted(known[1::2]), _of_rows(log[column], fitted)
        names = [*(f"direction {i + 1}" for i in range(before.shape[1] - 1)), "distance from the usual directions"]
        for i, name in enumerate(names):
            label = f"tokens at {column.removeprefix(TOKENS)} um/px, {name}"
            yield Quantity("tokens", label, before[:, i], after[:, i])


def _scanners(reference: pd.DataFrame, log: pd.DataFrame) -> Iterator[Quantity]:
    if SCANNER in reference and SCANNER in log:
        known = reference[SCANNER].dropna()
        usual = known.iloc[::2].value_counts(normalize=True)
        before, after = (column.map(usual).fillna(0.0).where(column.notna()) for column in (known[1::2], log[SCANNER]))
        yield Quantity("scan", "how usual the scanner is", before.to_numpy(float), after.to_numpy(float))


def _sketch(reference: pd.DataFrame, log: pd.DataFrame) -> Iterator[Quantity]:
    if GENES_SKETCH in reference and GENES_SKETCH in log and reference[GENES_SKETCH].notna().any():
        before, after = _stack(reference[GENES_SKETCH].dropna()), _of_rows(log[GENES_SKETCH], lambda rows: rows)
        for i in range(before.shape[1] if after.ndim == 2 else 0):
            yield Quantity("genes", f"signed sum {i + 1} of expression", before[:, i], after[:, i])


def output_quantities(reference: Sequence[np.ndarray], log: np.ndarray, labels: Sequence[str]) -> list[Quantity]:
    """Return the quantities of outputs: of the reference [m] each, of the log [p outputs]."""
    pairs = zip(reference, log.T, labels, strict=True)
    return [Quantity("outputs", label, r[np.isfinite(r)], s) for r, s, label in pairs if len(r) >= MIN_REFERENCE]


def _stack(column: pd.Series) -> np.ndarray:
    return np.array([np.asarray(row, float) for row in column])


def _of_rows(column: pd.Series, apply: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function to the vectors of a column; rows of NaN where there is none."""
    known = column.notna().to_numpy()
    if not known.any():
        return np.full((len(column), 1), np.nan)
    values = apply(_stack(column[known]))
    result = np.full((len(column), values.shape[1]), np.nan)
    result[known] = values
    return result
