"""cBioPortal study folders: data_mrna_seq_*.txt (Hugo_Symbol, Entrez_Gene_Id, samples) with data_clinical_sample.txt.

The clinical files need no reader of their own: they are tables below four or five lines that begin with ``#``, which
`read_table` passes over, and a description says what their columns mean.
"""

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from dml.core.errors import InputError, listed
from dml.readers.columns import Column
from dml.readers.expression.expression_format import PortalFormat, RawMatrix, to_float
from dml.readers.joins import match_ids
from dml.readers.samples import Sample, describe_type, patient_of, select_types
from dml.readers.table_files import column, keys, read_table, rows

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
        names = sorted(str(c) for c in frame.columns if c not in NOT_SAMPLES)
        described = _read_samples(raw / self.samples, self.file)
        absent = f"not in {self.samples}"
        samples = [described[name] for name in names if name in described]
        excluded = [(Sample(patient_of(name), name, file=self.file), absent) for name in names if name not in described]
        if not samples:
            hint = match_ids("", names, described).hint or "Correct expression.samples"
            raise InputError(path, f"none of its samples ({listed(names, 3)}) is in {self.samples}", hint)
        samples, others = select_types(samples, self.sample_types)
        if not samples:
            types = listed(sorted({describe_type(s.name, s.kind) for s, _ in others}))
            problem = f"no sample is {listed(self.sample_types)}; SAMPLE_TYPE holds {types}"
            raise InputError(raw / self.samples, problem, "Correct expression.sample_types")
        body = to_float(frame[[s.name for s in samples]], path).set_axis(genes, axis=0)
        body = body.set_axis([s.patient_id for s in samples], axis=1).T
        return RawMatrix(body, path, samples, [*excluded, *others])


def _genes(frame: pd.DataFrame, path: Path, with_numbers: bool) -> list[str]:
    """Symbols; with the Entrez id behind a bar where it is to decide, or is all there is."""
    if HUGO not in frame and ENTREZ not in frame:
        column(frame, path, HUGO)  # raises, and shows what there is
    nothing = pd.Series("", index=frame.index)
    symbols = frame[HUGO].fillna("").astype(str).str.strip() if HUGO in frame else nothing
    numbers = frame[ENTREZ].fillna("").astype(str).str.strip() if ENTREZ in frame else nothing
    numbers = numbers.where(numbers.str.isdigit(), "")  # unknown genes have negative ids
    if (unnamed := (symbols == "") & (numbers == "")).any():
        raise InputError(path, f"neither symbol nor Entrez id in {rows(unnamed)}", "Name or delete the genes")
    both = symbols + "|" + numbers
    return list(both.where((numbers != "") & (with_numbers | (symbols == "")), symbols).str.removeprefix("|"))


def _read_samples(path: Path, file: str) -> dict[str, Sample]:
    frame = read_table(path)
    samples, patients = (keys(frame, path, Column(column=name)) for name in ("SAMPLE_ID", "PATIENT_ID"))
    kinds = column(frame, path, "SAMPLE_TYPE") if "SAMPLE_TYPE" in frame else pd.Series(None, index=frame.index)
    rows = zip(samples, patients, kinds.fillna("").str.strip(), strict=True)
    return {name: Sample(patient, name, kind, file=file) for name, patient, kind in rows}
