"""UCSC Xena: one matrix, genes (first column, whatever its name) by samples, tab-separated, often compressed."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from dml.core.errors import InputError, listed
from dml.readers.columns import Column, Pattern
from dml.readers.expression.expression_format import PortalFormat, RawMatrix, match_headers, to_float
from dml.readers.samples import Sample, describe_type, patient_of
from dml.readers.table_files import keys, read_table

TCGA_PRIMARY = r"^(TCGA-..-....)-0[135]"
"""TCGA sample barcodes of primary tumors (01 solid, 03 blood, 05 additional); the part that is kept is the patient."""


class Xena(PortalFormat):
    """A matrix of UCSC Xena: genes by samples, tab-separated (.gz); the first column holds the genes."""

    format: Literal["xena"]
    file: str
    id: Pattern = Field(default=TCGA_PRIMARY, description="sample -> patient; samples that do not match are left out")

    def read(self, raw: Path) -> RawMatrix:
        """Read the samples whose barcodes match, in order of their barcodes, as patients by genes.

        Raises
        ------
        InputError
            If the file is missing or wrong, or no sample matches (the message shows some that there are).
        """
        path = raw / self.file
        frame = read_table(path, numeric=True, text=[0])
        names = keys(frame, path, Column(column=str(frame.columns[0])))
        samples = sorted(str(c) for c in frame.columns[1:])
        patients = match_headers(samples, self.id)
        if not patients:
            problem = f"no sample matches {self.id!r}; there are {listed(samples, 3)}"
            raise InputError(path, problem, "Correct expression.id")
        body = to_float(frame[list(patients)], path).set_axis(names.to_list(), axis=0)
        rows = [Sample(patient, name, file=self.file) for name, patient in patients.items()]
        excluded = [
            (Sample(patient_of(name), name, file=self.file), f"{describe_type(name)}: does not match expression.id")
            for name in samples
            if name not in patients
        ]
        return RawMatrix(body.set_axis(list(patients.values()), axis=1).T, path, rows, excluded)
