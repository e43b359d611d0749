"""Expression tables in a request: read once, one row per patient, in the unit of the model."""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from dml.core.errors import ConfigError, InputError
from dml.data.preprocessing import Preprocessor
from dml.genes.expression_units import check_unit, convert

MIN_COVERAGE = 0.8
"""Share of the model's genes that a table must measure; below it most of the transcriptome would be imputed."""


@dataclass(frozen=True, slots=True)
class ExpressionProfile:
    """One patient's expression, in the gene order of its table and the unit of the model."""

    genes: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class _Table:
    genes: tuple[str, ...]
    unit: str | None
    rows: pd.DataFrame


def read_profile(path: Path, patient_id: str, preprocessor: Preprocessor) -> ExpressionProfile | None:
    """Read one patient's row; None if the table does not have the patient.

    Parameters
    ----------
    path : Path
        The cohort store's expression.parquet, or a CSV or TSV (also gzipped): one row a patient, identifiers in the
        first column, gene symbols in the header, values in the unit of the model's cohort.

    Raises
    ------
    InputError
        If the table cannot be read, is in another unit, or measures too few of the model's genes.
    """
    table = _read(path, path.stat().st_mtime_ns)
    share = coverage(table.genes, preprocessor)
    if share < MIN_COVERAGE:
        raise InputError(path, f"measures {share:.0%} of the model's genes", f"At least {MIN_COVERAGE:.0%} are needed")
    if patient_id not in table.rows.index:
        return None
    values = in_unit(table.rows.loc[[patient_id]].to_numpy(np.float64), table.unit, preprocessor.unit, path)
    return ExpressionProfile(table.genes, values[0].astype(np.float32))


def in_unit(values: np.ndarray, unit: str | None, target_unit: str, where: Path) -> np.ndarray:
    """Convert values [patients genes] to the unit of a model; with no unit declared they must be able to be in it.

    Raises
    ------
    InputError
        If one cannot become the other, or the values cannot be what they are taken for.
    """
    check_unit(values, unit or target_unit, where)
    try:
        return convert(values, unit or target_unit, target_unit)
    except ConfigError:
        raise InputError(where, f"expression in unit {unit}", f"The model needs {target_unit}") from None


def coverage(genes: tuple[str, ...], preprocessor: Preprocessor) -> float:
    """Share of the genes a model uses that are among those measured; 1 for a model without genes."""
    used = {*preprocessor.tumor_genes, *preprocessor.tme_genes}
    return len(used & set(genes)) / len(used) if used else 1.0


@lru_cache(maxsize=8)
def _read(path: Path, modified: int) -> _Table:
    if path.suffix == ".parquet":
        from dml.cohorts.store_files import read_expression

        matrix = read_expression(path)
        rows = pd.DataFrame(matrix.values, index=pd.Index(matrix.patient_ids))
        return _Table(tuple(matrix.genes), matrix.unit, rows)
    rows = _read_text(path)
    if not rows.index.is_unique:
        raise InputError(path, "a patient has two rows", "Keep one row a patient")
    return _Table(tuple(str(gene) for gene in rows.columns), None, rows)


def _read_text(path: Path) -> pd.DataFrame:
    """Read a table of numbers; no message contains a cell, as the request may name any file."""
    remedy = "One row a patient, identifiers in the first column, gene symbols in the header"
    separator = "\t" if ".tsv" in path.suffixes or ".txt" in path.suffixes else ","
    try:
        rows = pd.read_csv(path, sep=separator, index_col=0, dtype={0: str})
    except (ValueError, EOFError, zlib.error):
        raise InputError(path, "not a table", remedy) from None
    rows.index = rows.index.astype(str)
    text = rows.select_dtypes(exclude="number")
    numbers = text.apply(pd.to_numeric, errors="coerce")
    wrong = np.argwhere((numbers.isna() & text.notna()).to_numpy())
    if len(wrong):
        row, column = wrong[0]
        where = f"row {row + 2}, column {list(rows.columns).index(text.columns[column]) + 2}"
        raise InputError(path, f"not a table of numbers ({where})", remedy)
    return rows.assign(**{name: numbers[name] for name in numbers.columns}).astype(np.float32)
