"""GDC's STAR counts: a folder with one table a sample, and the sample sheet that says whose they are.

Each file is GENCODE genes by measures (``unstranded`` counts, ``tpm_unstranded``, ...) below a comment line and above
four rows of totals (``N_unmapped``, ...). Both, the archive of the portal and gdc-client, put each file into a folder
named by its id; the sample sheet names files, cases and samples.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from dml.core.errors import InputError, listed
from dml.readers.archives import members
from dml.readers.columns import Column
from dml.readers.expression.expression_format import PortalFormat, RawMatrix, Unit, to_float
from dml.readers.samples import Sample, select_types
from dml.readers.table_files import column, keys, read_table

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
        folder, sheet = raw / self.folder, raw / self.sample_sheet
        listed_samples = _read_sheet(sheet)
        samples, others = select_types(listed_samples, self.sample_types)
        if not samples:
            types = listed(sorted({s.kind for s in listed_samples}))
            problem = f"no expression of type {listed(self.sample_types)}; it has {types}"
            raise InputError(sheet, problem, "Correct expression.sample_types")
        logger.info("%s: %d of %d files are %s", sheet, len(samples), len(listed_samples), listed(self.sample_types))
        samples = sorted(samples, key=lambda s: (s.patient_id, s.name, s.file))
        paths = _find_files(folder, [s.file for s in samples], sheet)
        tables = [_read_one(path, self.measure) for path in paths]
        for path, table in zip(paths, tables, strict=True):
            if not tables[0].index.equals(table.index):
                problem = f"{len(table)} genes, not the {len(tables[0])} of {paths[0].name}"
                remedy = "It is cut, or of another gene model: download all samples from one data release"
                raise InputError(path, problem, remedy)
        frame = pd.DataFrame(
            np.stack([table[self.measure].to_numpy(np.float64) for table in tables]),
            index=[s.patient_id for s in samples],
            columns=list(tables[0].index),
        )
        samples = [replace(s, reads=float(t["unstranded"].sum())) for s, t in zip(samples, tables, strict=True)]
        left_out = ~tables[0]["gene_type"].isin(self.gene_types) & bool(self.gene_types)
        return RawMatrix(frame, folder, samples, others, frozenset(tables[0].index[left_out]))


def _read_sheet(path: Path) -> list[Sample]:
    """Return the samples of the expression files that a sample sheet lists."""
    frame = read_table(path)
    if "Data Type" in frame:
        frame = frame[frame["Data Type"].str.strip() == DATA_TYPE]
    files, cases, samples = (column(frame, path, name) for name in ("File Name", "Case ID", "Sample ID"))
    kinds = _sample_types(frame, path)
    parts = [cells.fillna("").str.split(",").str[0].str.strip() for cells in (cases, samples, kinds, files)]
    rows = zip(*parts, strict=True)  # a file of one sample repeats its case
    return [Sample(case, name, kind, file=file) for case, name, kind, file in rows if case and file]


def _sample_types(frame: pd.DataFrame, path: Path) -> pd.Series:
    """Sample types in the words of older sheets; newer ones write them in two columns (Primary, Tumor)."""
    if "Sample Type" in frame or "Tumor Descriptor" not in frame:
        return column(frame, path, "Sample Type")
    both = [column(frame, path, name).str.split(",").str[0].str.strip() for name in ("Tumor Descriptor", "Tissue Type")]
    return both[0] + " " + both[1]


def _find_files(folder: Path, names: list[str], sheet: Path) -> list[Path]:
    there = {Path(name).name: folder / name for name in members(folder)}
    # the portal's archive may hold them compressed
    paths = {name: there.get(name) or there.get(f"{name}.gz") for name in names}
    if absent := [name for name, path in paths.items() if path is None]:
        problem = f"{len(absent)} files of {sheet.name} are not there: {listed(absent, 2)}"
        raise InputError(folder, problem, "Fetch them")
    return [path for name in names if (path := paths[name]) is not None]


def _read_one(path: Path, measure: str) -> pd.DataFrame:
    """Return gene_type, counts and the measure by gene id, without the rows of totals."""
    wanted = dict.fromkeys(["gene_id", "gene_type", "unstranded", measure])
    frame = read_table(path, numeric=True, text=["gene_id", "gene_name", "gene_type"])
    if absent := [name for name in wanted if name not in frame]:
        raise InputError(path, f"not a STAR counts file with {', '.join(wanted)}", f"It has no {absent[0]}; fetch it")
    genes = frame[~keys(frame, path, Column(column="gene_id")).str.startswith("N_")]
    if genes.empty:
        raise InputError(path, "no genes in it", "Fetch it again")
    values = to_float(genes[[name for name in wanted if name not in ("gene_id", "gene_type")]], path)
    return values.assign(gene_type=genes["gene_type"]).set_axis(genes["gene_id"])
