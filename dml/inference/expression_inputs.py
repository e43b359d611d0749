"""Expression tables handed to a registered model: read once, one row per patient, in the unit the model knows."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from dml.cohorts.expression_units import check_unit, convert
from dml.core.errors import ConfigError, InputError
from dml.data.preprocessing import Preprocessor

MIN_COVERAGE = 0.8
"""Share of the model's genes that a table must measure; below it the transcriptome would be mostly made up."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """One patient's expression, in the gene order of its table and the unit of the model."""

    genes: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class _Table:
    genes: tuple[str, ...]
    unit: str | None
    rows: pd.DataFrame


def read_transcript(path: Path, patient_id: str, preprocessor: Preprocessor) -> Transcript | None:
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
    if not path.exists():
        raise InputError(path, "the file does not exist", "Check the path")
    table = _read(path, path.stat().st_mtime_ns)
    share = coverage(table.genes, preprocessor)
    if share < MIN_COVERAGE:
        raise InputError(path, f"measures {share:.0%} of the model's genes", f"At least {MIN_COVERAGE:.0%} are needed")
    if patient_id not in table.rows.index:
        return None
    values = in_unit(table.rows.loc[[patient_id]].to_numpy(np.float64), table.unit, preprocessor.unit, path)
    return Transcript(table.genes, values[0].astype(np.float32))


def in_unit(values: np.ndarray, unit: str | None, wanted: str, where: Path) -> np.ndarray:
    """Convert values [patients genes] to the unit of a model; with no unit declared they must be able to be in it.

    Raises
    ------
    InputError
        If one cannot become the other, or the values cannot be what they are taken for.
    """
    check_unit(values, unit or wanted, where)
    try:
        return convert(values, unit or wanted, wanted)
    except ConfigError:
        raise InputError(where, f"expression in unit {unit}", f"The model needs {wanted}") from None


def coverage(genes: tuple[str, ...], preprocessor: Preprocessor) -> float:
    """Share of the genes a model uses that are among those measured; 1 for a model without genes."""
    wanted = {*preprocessor.tumor_genes, *preprocessor.tme_genes}
    return len(wanted & set(genes)) / len(wanted) if wanted else 1.0


@lru_cache(maxsize=8)
def _read(path: Path, modified: int) -> _Table:
    if path.suffix == ".parquet":
        from dml.cohorts.expression import read_expression

        matrix = read_expression(path)
        rows = pd.DataFrame(matrix.values, index=pd.Index(matrix.patient_ids))
        return _Table(tuple(matrix.genes), matrix.unit, rows)
    separator = "\t" if ".tsv" in path.suffixes or ".txt" in path.suffixes else ","
    try:
        rows = pd.read_csv(path, sep=separator, index_col=0, dtype={0: str})
        rows.index = rows.index.astype(str)
        numbers = rows.astype(np.float32)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            path, f"not a table of numbers ({error})", "One row a patient, gene symbols in the header"
        ) from None
    if not numbers.index.is_unique:
        raise InputError(path, "a patient has two rows", "Keep one row a patient")
    return _Table(tuple(str(gene) for gene in numbers.columns), None, numbers)
