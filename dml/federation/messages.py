"""What may leave a site: for each kind of message the names, types and shapes of its arrays and texts.

No shape depends on the number of patients, so no row of a patient fits in; a site checks every message before it
leaves. Texts are names: of genes, classes, encoder and unit.

Shape legend: d width of a token, g genes, c covariates, k classes, t cells of the grid of days, q cells of a histogram.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dml.core.errors import InputError

DAY_GRID = np.arange(0.0, 40 * 365.25, 15.0)
"""Days at which the cells of follow-up begin: half months over 40 years."""
HISTOGRAM_CELLS = 128
"""Cells of a gene's histogram, over `HISTOGRAM_DEVIATIONS` standard deviations on either side of its mean."""
HISTOGRAM_DEVIATIONS = 8.0
MAX_NAMES, MAX_NAME_LENGTH = 100_000, 100
NUMERIC = "iuf"
"""Kinds of NumPy types that are numbers."""


@dataclass(frozen=True)
class Message:
    """Arrays and texts by name."""

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the arrays and characters of the texts."""
        characters = sum(len(text) for texts in self.texts.values() for text in texts)
        return characters + sum(array.nbytes for array in self.arrays.values())

    def count(self, name: str) -> float:
        """Return a single number."""
        return float(self.arrays[name])


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Widths that both sides know; the shapes of messages follow from them."""

    width: int = 0
    genes: int = 0
    covariates: int = 0
    classes: int = 0
    levels: int = 0
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def allowed_shapes(kind: str, dims: Dimensions) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the arrays of a kind of message from a site.

    Raises
    ------
    InputError
        If there is no such kind.
    """
    levels, genes, cells = (dims.levels,), (dims.genes,), (len(DAY_GRID),)
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "description": {"patients": (), "mpps": levels, "tile_um": levels, "width": ()},
        "sums": {
            **{"bags": (), "token_sum": (dims.width,), "token_square_sum": (dims.width,)},
            **{"gene_count": genes, "gene_sum": genes, "gene_square_sum": genes},
            **dict.fromkeys(("covariate_count", "covariate_sum", "covariate_square_sum"), (dims.covariates,)),
            **{"class_count": (dims.classes,), "deaths": cells, "exits": cells},
        },
        "histograms": {"gene_cells": (dims.genes, HISTOGRAM_CELLS)},
        "clipped_sums": {"gene_count": genes, "gene_sum": genes, "gene_square_sum": genes},
        "training": {**dims.weights, "patients": (), "validation_loss_sum": (), "validation_patients": ()},
        "validation": {"validation_loss_sum": (), "validation_patients": ()},
        "risk": {"patients": (), "risk_sum": (), "risk_square_sum": (), "risk_cells": (HISTOGRAM_CELLS,)},
        "score": {"patients": (), "concordant": (), "comparable": ()},
    }
    if kind not in shapes:
        raise InputError("federation", f"no message of kind {kind!r}", f"There are {', '.join(shapes)}")
    return shapes[kind]


TEXTS = {"description": ("encoder", "unit", "genes", "classes", "tumor", "tme")}
"""Kinds of message from a site that hold texts, and their names."""


def check_leaving(kind: str, message: Message, dims: Dimensions) -> Message:
    """Return a message that may leave a site.

    Raises
    ------
    InputError
        If it holds anything but the arrays and texts of its kind, in their shapes.
    """
    shapes, names = allowed_shapes(kind, dims), TEXTS.get(kind, ())
    for name in (*message.arrays, *message.texts):
        if name not in (*shapes, *names):
            raise _refuse(kind, name, "does not belong there")
    for name, array in message.arrays.items():
        if array.dtype.kind not in NUMERIC or array.shape != shapes[name]:
            raise _refuse(kind, name, f"is {array.dtype} {array.shape}, numbers {shapes[name]} are allowed")
    for name, texts in message.texts.items():
        if len(texts) > MAX_NAMES or any(len(text) > MAX_NAME_LENGTH for text in texts):
            raise _refuse(kind, name, "has too many or too long names")
    missing = [name for name in shapes if name not in message.arrays]
    if missing:
        raise _refuse(kind, ", ".join(missing), "is missing")
    return message


def _refuse(kind: str, name: str, problem: str) -> InputError:
    return InputError("federation", f"message {kind}: {name} {problem}", "It is not passed on")


def number(value: Any) -> np.ndarray:
    """Return a single number as an array."""
    return np.asarray(value, np.float64)
