"""cBioPortal study folders: data_mrna_seq_*.txt (Hugo_Symbol, Entrez_Gene_Id, samples) with data_clinical_sample.txt.

The clinical files need no reader of their own: they are tables below four or five lines that begin with ``#``, which
`read_table` passes over, and a description says what their columns mean.
"""

import logging
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from dml.cohorts.columns import Column
from dml.cohorts.readers.expression_format import PortalFormat, RawMatrix, to_float
from dml.cohorts.readers.tables import column, keys, read_table, rows
from dml.core.errors import InputError, listed

logger = logging.getLogger(__name__)

HUGO, ENTREZ = "Hugo_Symbol", "Entrez_Gene_Id"
NOT_SAMPLES = (HUGO, ENTREZ, "Cytoband")


class CBioPortal(PortalFormat):
    """A matrix of a cBioPortal study (data_mrna_seq_*.txt): Hugo_Symbol, Entrez_Gene_Id, then one column a sample."""

    format: Literal["cbioportal"]
    file: str
    samples: str = Field(default="data_clinical_sample.txt", description="SAMPLE_ID -> PATIENT_ID")
    sample_types: tuple[str, ...] = Field(
        default=(), description="values of SAMPLE_TYPE that are kept, e.g. [Primary]; empty = all"
    )

    def read(self, raw: Path) -> RawMatrix:
        """Read the samples that the study's sample file knows, in order of their ids, as patients by genes.

        Raises
        ------
        InputError
            If a file or column is missing, a gene has neither symbol nor Entrez id, or no sample is known.
        """
        path = raw / self.file
        frame = read_table(path, numeric=True, text=[HUGO, ENTREZ])
        genes = _genes(frame, path, self.symbols == "approved")
        patients = _patients(raw / self.samples, self.sample_types)
        samples = [str(c) for c in frame.columns if c not in NOT_SAMPLES]
        known = sorted(sample for sample in samples if sample in patients)
        if not known:
            problem = f"none of its samples ({listed(samples, 3)}) is in {self.samples}"
            raise InputError(path, problem, "Correct expression.samples or expression.sample_types")
        if len(known) < len(samples):
            logger.info("%s: %d of %d samples are left out", path, len(samples) - len(known), len(samples))
        body = to_float(frame[known], path).set_axis(genes, axis=0)
        return RawMatrix(body.set_axis([patients[sample] for sample in known], axis=1).T, path)


def _genes(frame: pd.DataFrame, path: Path, with_numbers: bool) -> list[str]:
    """Symbols; with the Entrez id behind a bar where it is to decide, or is all there is."""
    if HUGO not in frame and ENTREZ not in frame:
        column(frame, path, HUGO)  # raises, and shows what there is
    nothing = pd.Series("", index=frame.index)
    symbols = frame[HUGO].fillna("").str.strip() if HUGO in frame else nothing
    numbers = frame[ENTREZ].fillna("").str.strip() if ENTREZ in frame else nothing
    numbers = numbers.where(numbers.str.isdigit(), "")  # unknown genes have negative ids
    if (unnamed := (symbols == "") & (numbers == "")).any():
        raise InputError(path, f"neither symbol nor Entrez id in {rows(unnamed)}", "Name or delete the genes")
    both = symbols + "|" + numbers
    return list(both.where((numbers != "") & (with_numbers | (symbols == "")), symbols).str.removeprefix("|"))


def _patients(path: Path, sample_types: tuple[str, ...]) -> dict[str, str]:
    frame = read_table(path)
    samples, patients = (keys(frame, path, Column(column=name)) for name in ("SAMPLE_ID", "PATIENT_ID"))
    if sample_types:
        wanted = column(frame, path, "SAMPLE_TYPE").isin(sample_types)
        samples, patients = samples[wanted], patients[wanted]
    return dict(zip(samples, patients, strict=True))
