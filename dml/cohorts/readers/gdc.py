"""GDC's STAR counts: a folder with one table a sample, and the sample sheet that says whose they are.

Each file is GENCODE genes by measures (``unstranded`` counts, ``tpm_unstranded``, ...) below a comment line and above
four rows of totals (``N_unmapped``, ...). Both, the archive of the portal and gdc-client, put each file into a folder
named by its id; the sample sheet names files, cases and samples.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from dml.cohorts.readers.expression_format import PortalFormat, RawMatrix, Unit
from dml.cohorts.readers.files import members
from dml.cohorts.readers.tables import column, read_table
from dml.core.errors import InputError, listed

logger = logging.getLogger(__name__)

DATA_TYPE = "Gene Expression Quantification"


GDC_UNITS: Mapping[str, Unit] = {
    "unstranded": "counts",
    "tpm_unstranded": "tpm",
    "fpkm_unstranded": "fpkm",
    "fpkm_uq_unstranded": "fpkm_uq",
}


class GdcFolder(PortalFormat):
    """A folder of GDC's STAR counts, ``*.rna_seq.augmented_star_gene_counts.tsv``, and its sample sheet."""

    format: Literal["gdc_star_counts"]
    folder: str = Field(description="searched recursively, as gdc-client or the portal's archive lays the files out")
    sample_sheet: str = Field(description="gdc_sample_sheet.<date>.tsv: File Name -> Case ID")
    measure: Literal["unstranded", "tpm_unstranded", "fpkm_unstranded", "fpkm_uq_unstranded"] = "tpm_unstranded"
    sample_types: tuple[str, ...] = Field(default=("Primary Tumor",), min_length=1, description="others are left out")
    gene_types: tuple[str, ...] = Field(
        default=("protein_coding",), description="GENCODE types that are stored (after the conversion); empty = all"
    )

    @model_validator(mode="before")
    @classmethod
    def _unit_of_the_measure(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        unit = GDC_UNITS.get(str(content.get("measure", "tpm_unstranded")))
        if content.get("unit", unit) != unit:
            raise ValueError(f"unit: {content.get('measure', 'tpm_unstranded')} is {unit}; leave `unit` out")
        return {**content, "unit": unit} if unit else content

    def read(self, raw: Path) -> RawMatrix:
        """Read the samples of the wanted types, in order of case and sample, as samples by Ensembl ids.

        Raises
        ------
        InputError
            If the sheet or a file it names is missing or of another kind, or files are of different gene models.
        """
        folder = raw / self.folder
        sheet = _wanted(raw / self.sample_sheet, self.sample_types)
        files = _files(folder, list(sheet["File Name"]), raw / self.sample_sheet)
        first: pd.DataFrame | None = None
        values = []
        for file in files:
            table = _read_one(file, self.measure)
            if first is None:
                first = table
            elif not first.index.equals(table.index):
                problem = f"other genes than {files[0].name}: the files are of different gene models"
                raise InputError(file, problem, "Download all samples from one data release")
            values.append(table[self.measure].to_numpy(np.float64))
        assert first is not None, "a sheet without samples is refused above"
        frame = pd.DataFrame(np.stack(values), index=list(sheet["Case ID"]), columns=list(first.index))
        left_out = ~first["gene_type"].isin(self.gene_types) & bool(self.gene_types)
        return RawMatrix(frame, folder, frozenset(first.index[left_out]))


def _wanted(path: Path, sample_types: tuple[str, ...]) -> pd.DataFrame:
    """Return File Name, Case ID and Sample ID of the samples to read."""
    frame = read_table(path)
    rows = pd.DataFrame({name: column(frame, path, name).str.strip() for name in ("File Name", "Case ID", "Sample ID")})
    types = _sample_types(frame, path)
    expression = frame["Data Type"].eq(DATA_TYPE) if "Data Type" in frame else pd.Series(True, index=frame.index)
    wanted = rows[types.isin(sample_types) & expression].dropna()
    if wanted.empty:
        found = f"no expression of type {listed(sample_types)}; it has {listed(sorted(set(types.dropna())))}"
        raise InputError(path, found, "Correct expression.sample_types")
    logger.info("%s: %d of %d rows are %s", path, len(wanted), len(frame), listed(sample_types))
    wanted["Case ID"] = wanted["Case ID"].str.split(",").str[0].str.strip()  # a file of one sample repeats its case
    return wanted.sort_values(["Case ID", "Sample ID", "File Name"], ignore_index=True)


def _sample_types(frame: pd.DataFrame, path: Path) -> pd.Series:
    """Sample types in the words of older sheets; newer ones write them in two columns (Primary, Tumor)."""
    if "Sample Type" in frame or "Tumor Descriptor" not in frame:
        return column(frame, path, "Sample Type").str.split(",").str[0].str.strip()
    both = [column(frame, path, name).str.split(",").str[0].str.strip() for name in ("Tumor Descriptor", "Tissue Type")]
    return both[0] + " " + both[1]


def _files(folder: Path, wanted: list[str], sheet: Path) -> list[Path]:
    there = {Path(name).name: folder / name for name in members(folder)}
    # the portal's archive may hold them compressed
    found = {name: there.get(name) or there.get(f"{name}.gz") for name in wanted}
    if absent := [name for name, path in found.items() if path is None]:
        raise InputError(
            folder, f"{len(absent)} files of {sheet.name} are not there: {listed(absent, 2)}", "Fetch them"
        )
    return [path for path in found.values() if path is not None]


def _read_one(path: Path, measure: str) -> pd.DataFrame:
    columns = ["gene_id", "gene_type", measure]
    try:
        table = pd.read_csv(path, sep="\t", comment="#", usecols=columns, dtype={measure: np.float64})
    except (ValueError, OSError, EOFError) as error:  # also pandas' parser errors and Unicode
        found = f"not a STAR counts file with {', '.join(columns)} ({str(error).splitlines()[0]})"
        raise InputError(path, found, "Fetch it again, or remove it from the sample sheet") from None
    genes = table[~table["gene_id"].str.startswith("N_")]
    if genes.empty:
        raise InputError(path, "no genes in it", "Fetch it again")
    return genes.set_index("gene_id")
