"""One expression vector a patient, genes by symbol: any orientation, any order of rows and columns, one result."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression_units import LINEAR, check_unit, convert, stored_unit, with_offset_one
from dml.cohorts.gene_symbols import rename
from dml.cohorts.readers.expression_format import ExpressionFormat
from dml.core.errors import InputError, listed
from dml.core.files import read_parquet, write_parquet

logger = logging.getLogger(__name__)

AGREE = 1e-6
"""Largest difference between rows of one patient that count as identical."""


@dataclass(frozen=True, slots=True)
class ExpressionMatrix:
    """Expression of a cohort, p patients by g genes, both in alphabetical order; `unit` as in `expression_units`."""

    patient_ids: tuple[str, ...]
    genes: tuple[str, ...]
    values: Float32[np.ndarray, "p g"]
    unit: str
    source: str

    def subset(self, patient_ids: set[str]) -> "ExpressionMatrix":
        """Return the matrix of some patients."""
        kept = [i for i, patient in enumerate(self.patient_ids) if patient in patient_ids]
        names = tuple(self.patient_ids[i] for i in kept)
        return ExpressionMatrix(names, self.genes, self.values[kept], self.unit, self.source)


def build_expression(description: CohortDescription) -> ExpressionMatrix:
    """Read, align and convert the cohort's matrix; an empty one (unit ``absent``) where none is described.

    Duplicated symbols are merged before any conversion: linear units are summed (transcripts of one gene add up),
    logarithms and z-scores averaged. Genes that are not to be stored (`gene_types` of GDC) are left out after it.

    Raises
    ------
    InputError
        If the file is wrong, a value is not a finite number (gene and patient are named) and `missing` does not say
        what to do then, or rows of a patient differ.
    ConfigError
        If the conversion asked for has no meaning.
    """
    spec = description.expression
    if spec is None:
        return ExpressionMatrix((), (), np.zeros((0, 0), np.float32), "absent", "")
    read = spec.read(description.raw_folder)
    left_out = _named(read.frame, read.left_out, spec)
    table = _merged_patients(_merged_genes(read.frame, spec.unit), spec, read.where)
    table = table.drop(index=[p for p in table.index if p in description.exclude])
    table = _finite(table, spec, read.where)
    check_unit(table.to_numpy(np.float64), spec.unit, read.where, spec.log_offset)
    unit = spec.convert or stored_unit(spec.unit)
    values = convert(with_offset_one(table.to_numpy(np.float64), spec.log_offset), spec.unit, unit)
    stored = ~table.columns.isin(left_out)
    source = spec.source or f"{read.where.name}, {spec.unit}"
    genes = tuple(table.columns[stored])
    return ExpressionMatrix(tuple(table.index), genes, values[:, stored].astype(np.float32), unit, source)


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


def _named(frame: pd.DataFrame, left_out: Collection[str], spec: ExpressionFormat) -> frozenset[str]:
    """Rename the genes in place where approved symbols are wanted; return the new names of those not to be stored."""
    if spec.symbols == "as_written":
        return frozenset(left_out)
    written = list(frame.columns)
    renaming = rename(written)
    logger.info("%d genes: %s", len(written), renaming.format_line())
    frame.columns = pd.Index(renaming.names)
    dropped = {new for old, new in zip(written, renaming.names, strict=True) if old in left_out}
    stored = {new for old, new in zip(written, renaming.names, strict=True) if old not in left_out}
    return frozenset(dropped - stored)


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


def _merged_patients(matrix: pd.DataFrame, spec: ExpressionFormat, path: Path) -> pd.DataFrame:
    if matrix.index.is_unique:
        return matrix.sort_index()
    grouped = matrix.groupby(level=0, sort=True)
    if spec.repeats == "identical":
        differ = ~((grouped.max() - grouped.min()).fillna(0.0) <= AGREE).all(axis=1)
        if differ.any():
            found = f"several rows of the same patient differ: {listed(list(differ.index[differ]))}"
            raise InputError(path, found, "Set expression.repeats to mean or first, or narrow expression.id's pattern")
    return grouped.mean() if spec.repeats == "mean" else grouped.first()


def _finite(matrix: pd.DataFrame, spec: ExpressionFormat, path: Path) -> pd.DataFrame:
    """Refuse values that are missing or infinite, or leave their genes out, as the description says."""
    good = np.isfinite(matrix.to_numpy(np.float64))
    if good.all():
        return matrix
    if spec.missing == "drop_genes":
        whole = good.all(axis=0)
        lost = listed(list(matrix.columns[~whole]))
        logger.warning("%s: %d genes with missing values are left out: %s", path, (~whole).sum(), lost)
        kept: pd.DataFrame = matrix.loc[:, whole]
        return kept
    where = [f"gene {matrix.columns[g]} of patient {matrix.index[p]}" for p, g in np.argwhere(~good)[:3]]
    found = f"{(~good).sum()} missing or infinite values: {', '.join(where)}"
    raise InputError(path, found, "Fill them in, delete the genes or patients, or say expression.missing: drop_genes")
