"""UCSC Xena: one matrix, genes (first column, whatever its name) by samples, tab-separated, often compressed."""

from pathlib import Path

from dml.cohorts.columns import Column
from dml.cohorts.expression_formats import Xena
from dml.cohorts.readers.matrix import RawMatrix, matching, numeric
from dml.cohorts.readers.tables import keys, read_table
from dml.core.errors import InputError, listed


def read(raw: Path, spec: Xena) -> RawMatrix:
    """Read the samples whose barcodes match, in order of their barcodes, as patients by genes.

    Raises
    ------
    InputError
        If the file is missing or wrong, or no sample matches (the message shows some that there are).
    """
    path = raw / spec.file
    frame = read_table(path, numeric=True, text=[0])
    genes = str(frame.columns[0])
    names = keys(frame, path, Column(column=genes))
    samples = sorted(str(c) for c in frame.columns[1:])
    patients = matching(samples, spec.id)
    if not patients:
        raise InputError(
            path, f"no sample matches {spec.id!r}; there are {listed(samples, 3)}", "Correct expression.id"
        )
    body = numeric(frame[list(patients)], path).set_axis(names.to_list(), axis=0)
    return RawMatrix(body.set_axis(list(patients.values()), axis=1).T, path)
