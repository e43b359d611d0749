"""One expression vector a patient, genes by symbol: any orientation, any order of rows and columns, one result."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32

from dml.cohorts.columns import Column
from dml.cohorts.description import CohortDescription
from dml.cohorts.readers.tables import keys, read_table
from dml.cohorts.sources import ExpressionTable
from dml.cohorts.units import LINEAR, check_unit, convert, stored_unit
from dml.errors import InputError, listed
from dml.files import read_parquet, write_parquet

AGREE = 1e-6
"""Largest difference between rows of one patient that count as identical."""


@dataclass(frozen=True, slots=True)
class ExpressionMatrix:
    """Expression of a cohort, p patients by g genes, both in alphabetical order. `unit` as in `dml.cohorts.units`."""

    patient_ids: tuple[str, ...]
    genes: tuple[str, ...]
    values: Float32[np.ndarray, "p g"]
    unit: str
    source: str

    def only(self, patient_ids: set[str]) -> "ExpressionMatrix":
        """Return the matrix of some patients."""
        kept = [i for i, patient in enumerate(self.patient_ids) if patient in patient_ids]
        names = tuple(self.patient_ids[i] for i in kept)
        return ExpressionMatrix(names, self.genes, self.values[kept], self.unit, self.source)


def build_expression(description: CohortDescription) -> ExpressionMatrix:
    """Read, align and convert the cohort's matrix; an empty one (unit ``absent``) where none is described.

    Duplicated symbols are merged before any conversion: linear units are summed (transcripts of one gene add up),
    logarithms and z-scores averaged.

    Raises
    ------
    InputError
        If the file is wrong, a value is not a finite number (gene and patient are named), or rows of a patient differ.
    ConfigError
        If the conversion asked for has no meaning.
    """
    spec = description.expression
    if spec is None:
        return ExpressionMatrix((), (), np.zeros((0, 0), np.float32), "absent", "")
    path = description.raw_folder / spec.file
    matrix = _merged_patients(_merged_genes(_read(path, spec), spec.unit), spec, path)
    matrix = matrix.drop(index=[p for p in matrix.index if p in description.exclude])
    values = matrix.to_numpy(np.float64)
    _check_finite(matrix, path)
    check_unit(values, spec.unit, path)
    unit = spec.convert or stored_unit(spec.unit)
    values = convert(values, spec.unit, unit).astype(np.float32)
    source = spec.source or f"{spec.file}, {spec.unit}"
    return ExpressionMatrix(tuple(matrix.index), tuple(matrix.columns), values, unit, source)


def write_expression(path: Path, matrix: ExpressionMatrix) -> None:
    """Write one row a patient; gene symbols in order, unit and source go to the metadata."""
    flat = pa.array(np.ascontiguousarray(matrix.values, np.float32).reshape(-1), pa.float32())
    kind = pa.list_(pa.float32(), len(matrix.genes))
    vectors = (
        pa.FixedSizeListArray.from_arrays(flat, type=kind)
        if matrix.genes and matrix.patient_ids
        else pa.array([], kind)
    )
    table = pa.table({"patient_id": pa.array(matrix.patient_ids, pa.string()), "expression": vectors})
    metadata = {"genes": list(matrix.genes), "unit": matrix.unit, "source": matrix.source}
    write_parquet(path, table, metadata, compression="zstd")


def read_expression(path: Path) -> ExpressionMatrix:
    """Read what `write_expression` wrote."""
    table, metadata = read_parquet(path)
    genes = tuple(metadata["genes"])
    flat = table["expression"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    values = np.asarray(flat, np.float32).reshape(len(table), len(genes))
    patients = tuple(table["patient_id"].to_pylist())
    return ExpressionMatrix(patients, genes, values, metadata["unit"], metadata["source"])


def _read(path: Path, spec: ExpressionTable) -> pd.DataFrame:
    """Read the matrix as patients by genes, with duplicates on both sides."""
    by_patient = spec.orientation == "patients_as_rows"
    side, other = (spec.id, spec.gene) if by_patient else (spec.gene, spec.id)
    frame = read_table(path, numeric=True, text=[side.column or ""])
    names = keys(frame, path, Column(column=side.column or "", pattern=side.pattern))
    headers = _headers([c for c in frame.columns if c != side.column], other.pattern)
    if not headers:
        raise InputError(path, f"no column matches {other.pattern!r}", f"Correct expression.{_field(not by_patient)}")
    body = _numeric(frame[list(headers)], path)
    body = body.set_axis(names.to_list(), axis=0).set_axis(list(headers.values()), axis=1)
    return body if by_patient else body.T


def _field(patients: bool) -> str:
    return "id" if patients else "gene"


def _headers(columns: Sequence[str], pattern: str | None) -> dict[str, str]:
    named = {c: str(c).strip() for c in columns if not str(c).startswith("Unnamed:")}
    if pattern is None:
        return named
    found = {c: re.search(pattern, name) for c, name in named.items()}
    return {c: match[1] for c, match in found.items() if match is not None}


def _numeric(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    for name in frame.columns[[not pd.api.types.is_numeric_dtype(t) for t in frame.dtypes]]:
        cells = frame[name]
        wrong = cells.notna() & pd.to_numeric(cells, errors="coerce").isna()
        if wrong.any():
            row, found = wrong.idxmax(), f"{cells[wrong].iloc[0]!r} in column {name!r}"
            raise InputError(
                path, f"{found}, row {row}, is not a number", "Leave non-expression columns out by a pattern"
            )
    return frame.astype(np.float64)


def _merged_genes(matrix: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Merge columns of one symbol and sort; NaN in a duplicate stays NaN."""
    if matrix.columns.is_unique:
        return matrix.sort_index(axis=1)
    names, codes = np.unique(matrix.columns.to_numpy(str), return_inverse=True)
    values = matrix.to_numpy(np.float64)
    merged = np.zeros((len(matrix), len(names)))
    np.add.at(merged.T, codes, values.T)
    if unit not in LINEAR:
        merged /= np.bincount(codes)
    return pd.DataFrame(merged, index=matrix.index, columns=names)


def _merged_patients(matrix: pd.DataFrame, spec: ExpressionTable, path: Path) -> pd.DataFrame:
    if matrix.index.is_unique:
        return matrix.sort_index()
    grouped = matrix.groupby(level=0, sort=True)
    if spec.repeats == "identical":
        differ = ~((grouped.max() - grouped.min()).fillna(0.0) <= AGREE).all(axis=1)
        if differ.any():
            found = f"several rows of the same patient differ: {listed(list(differ.index[differ]))}"
            raise InputError(path, found, "Set expression.repeats to mean or first, or narrow expression.id's pattern")
    return grouped.mean() if spec.repeats == "mean" else grouped.first()


def _check_finite(matrix: pd.DataFrame, path: Path) -> None:
    bad = np.argwhere(~np.isfinite(matrix.to_numpy(np.float64)))
    if len(bad):
        where = [f"gene {matrix.columns[g]} of patient {matrix.index[p]}" for p, g in bad[:3]]
        found = f"{len(bad)} missing or infinite values: {', '.join(where)}"
        raise InputError(path, found, "Fill them in, or delete the genes or patients")
