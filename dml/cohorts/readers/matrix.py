"""A plain matrix of expression: patients or genes as rows, in any text format `read_table` reads, or Parquet."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dml.cohorts.columns import Column
from dml.cohorts.expression_formats import ExpressionTable
from dml.cohorts.readers.tables import keys, read_table
from dml.core.errors import InputError


@dataclass(frozen=True, slots=True)
class RawMatrix:
    """Samples (rows, named by patient) by genes as read: in the file's unit, with duplicates on both sides.

    `where` is the file or folder for messages; of genes named in `left_out` only the unit conversion needs to know.
    """

    frame: pd.DataFrame
    where: Path
    left_out: Collection[str] = frozenset()


def read(raw: Path, spec: ExpressionTable) -> RawMatrix:
    """Read the matrix that a description names.

    Raises
    ------
    InputError
        If the file or a column is missing, no header matches, or a cell is not a number.
    """
    path = raw / spec.file
    by_patient = spec.orientation == "patients_as_rows"
    side, other = (spec.id, spec.gene) if by_patient else (spec.gene, spec.id)
    frame = read_table(path, numeric=True, text=[side.column or ""])
    names = keys(frame, path, Column(column=side.column or "", pattern=side.pattern))
    found = matching([c for c in frame.columns if c != side.column], other.pattern)
    if not found:
        field = "id" if not by_patient else "gene"
        raise InputError(path, f"no column matches {other.pattern!r}", f"Correct expression.{field}")
    body = numeric(frame[list(found)], path)
    body = body.set_axis(names.to_list(), axis=0).set_axis(list(found.values()), axis=1)
    return RawMatrix(body if by_patient else body.T, path)


def matching(columns: Sequence[str], pattern: str | None) -> dict[str, str]:
    """Return header -> the part of it that counts; headers that do not match, or are empty, are left out."""
    named = {c: str(c).strip() for c in columns if not str(c).startswith("Unnamed:")}
    if pattern is None:
        return named
    found = {c: re.search(pattern, name) for c, name in named.items()}
    return {c: match[1] for c, match in found.items() if match is not None}


def numeric(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the cells as float64, NaN where empty.

    Raises
    ------
    InputError
        If a cell is not a number; the message names column and row.
    """
    for name in frame.columns[[not pd.api.types.is_numeric_dtype(t) for t in frame.dtypes]]:
        cells = frame[name]
        wrong = cells.notna() & pd.to_numeric(cells, errors="coerce").isna()
        if wrong.any():
            row, found = wrong.idxmax(), f"{cells[wrong].iloc[0]!r} in column {name!r}"
            raise InputError(
                path, f"{found}, row {row}, is not a number", "Leave non-expression columns out by a pattern"
            )
    return frame.astype(np.float64)
