"""What every format of expression has in common: a section of the cohort's YAML that reads itself into a matrix.

A new format is a new file in this folder: a subclass of `ExpressionFormat` whose field `format` is a ``Literal`` with
its tag, and whose `read` returns a `RawMatrix`. `registry` finds it; nothing else changes.
"""

import re
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, model_validator

from dml.config.params import Section
from dml.core.errors import InputError
from dml.readers.samples import Sample
from dml.readers.table_files import decimal_points

Unit = Literal[
    "counts", "tpm", "fpkm", "fpkm_uq", "rsem", "log2_counts", "log2_cpm", "log2_tpm", "log2_fpkm", "log2_fpkm_uq",
    "log2_rsem", "zscore",
]  # fmt: skip
"""Scale of an expression matrix; log2_x means log2(x + 1). rsem: normalised counts as TCGA and cBioPortal have them."""


@dataclass(frozen=True, slots=True)
class RawMatrix:
    """Samples (rows, named by patient) by genes as read: in the file's unit, with duplicates on both sides.

    Attributes
    ----------
    frame : DataFrame
        One row a sample, indexed by patient.
    where : Path
        File or folder, for messages.
    samples : sequence of Sample
        Of the rows, in their order; a format that does not tell them has one sample a row.
    excluded : sequence of (Sample, str)
        Samples that are not rows, and why.
    left_out : collection of str
        Genes that only the unit conversion needs to know.
    """

    frame: pd.DataFrame
    where: Path
    samples: Sequence[Sample] = ()
    excluded: Sequence[tuple[Sample, str]] = ()
    left_out: Collection[str] = frozenset()


class ExpressionFormat(Section):
    """Unit of a matrix, and how repeated samples, missing values and gene names are treated."""

    unit: Unit = Field(description="what the file holds")
    convert: Unit | None = Field(default=None, description="what is stored; default: log2(x + 1) of what is linear")
    log_offset: PositiveFloat = Field(
        default=1.0, description="the c of log2(x + c) in the file (UCSC Toil: 0.001); stored is always log2(x + 1)"
    )
    unit_confirmed: bool = Field(
        default=False, description="true: the unit is right although the values speak against it"
    )
    repeats: Literal["identical", "mean", "first"] = Field(
        default="identical",
        description="several samples of a patient: must agree, or the mean or one of the type that counts (`samples`)",
    )
    date_symbols: Literal["fail", "drop"] = Field(
        default="fail", description="gene names that Excel made dates (1-Mar): refused, or left out"
    )
    missing: Literal["fail", "drop_genes"] = Field(
        default="fail", description="cells without a number: refused, or genes that have one are left out"
    )
    symbols: Literal["as_written", "approved"] = Field(
        default="as_written", description="approved: Ensembl ids, Entrez ids, former symbols become HGNC symbols"
    )
    source: str = ""

    @model_validator(mode="after")
    def _offset_of_a_logarithm(self) -> "ExpressionFormat":
        if self.log_offset != 1.0 and not self.unit.startswith("log2_"):
            raise ValueError(f"log_offset is for units log2_..., not for {self.unit}")
        return self

    @abstractmethod
    def read(self, raw: Path) -> RawMatrix:
        """Read the matrix from the folder `raw`.

        Raises
        ------
        InputError
            If a file is missing or not what the description says.
        """


class PortalFormat(ExpressionFormat):
    """Of a public portal: one sample a patient (`samples.choose_sample`), genes under approved symbols."""

    repeats: Literal["identical", "mean", "first"] = "first"
    missing: Literal["fail", "drop_genes"] = "drop_genes"
    symbols: Literal["as_written", "approved"] = "approved"


def match_headers(columns: Sequence[str], pattern: str | None) -> dict[str, str]:
    """Return header -> the part of it that counts; headers that do not match, or are empty, are left out."""
    named = {c: str(c).strip() for c in columns if not str(c).startswith("Unnamed:")}
    if pattern is None:
        return named
    matches = {c: re.search(pattern, name) for c, name in named.items()}
    return {c: match[1] for c, match in matches.items() if match is not None}


def to_float(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the cells as float64, NaN where empty; 1,5 is 1.5 where no cell contradicts.

    Raises
    ------
    InputError
        If a cell is not a number; the message names column and row.
    """
    text = frame.columns[[not pd.api.types.is_numeric_dtype(t) for t in frame.dtypes]]
    if len(text) and (points := decimal_points(pd.Series(frame[text].stack()))) is not None:
        frame = frame.assign(**points.unstack().reindex(frame.index))
    for name in text:
        cells = frame[name]
        wrong = cells.notna() & pd.to_numeric(cells, errors="coerce").isna()
        if wrong.any():
            problem = f"{cells[wrong].iloc[0]!r} in column {name!r}, row {wrong.idxmax()}, is not a number"
            raise InputError(path, problem, "Leave non-expression columns out by a pattern")
    return frame.astype(np.float64)
