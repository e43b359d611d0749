"""A plain matrix of expression: patients or genes as rows, in any text format `read_table` reads, or Parquet."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from dml.config.params import Section
from dml.core.errors import InputError
from dml.readers.columns import Column, Pattern, parse_column
from dml.readers.expression.expression_format import ExpressionFormat, RawMatrix, match_headers, to_float
from dml.readers.samples import Sample
from dml.readers.table_files import keys, read_table


class AxisNames(Section):
    """Names along one side of a matrix: a column, or (no column) the headers; `pattern` marks the part that counts."""

    column: str | None = None
    pattern: Pattern | None = Field(default=None, description="headers that do not match are left out")


Axis = Annotated[AxisNames, BeforeValidator(parse_column)]


class ExpressionTable(ExpressionFormat):
    """One matrix. Of `id` and `gene` one is a column, the other the headers of the remaining columns."""

    format: Literal["matrix"] = "matrix"
    file: str
    orientation: Literal["patients_as_rows", "genes_as_rows"]
    id: Axis = Field(default=AxisNames(), description="patients; a pattern shortens sample barcodes")
    gene: Axis = Field(default=AxisNames(), description="gene symbols, e.g. {pattern: '(.+)_rnaseq'}")

    @model_validator(mode="after")
    def _key_column(self) -> "ExpressionTable":
        field, other = ("id", "gene") if self.orientation == "patients_as_rows" else ("gene", "id")
        if getattr(self, field).column is None or getattr(self, other).column is not None:
            raise ValueError(
                f"{self.orientation}: `{field}` must name a column, `{other}` only a pattern of the headers"
            )
        return self

    def read(self, raw: Path) -> RawMatrix:
        """Read the matrix.

        Raises
        ------
        InputError
            If the file or a column is missing, no header matches, or a cell is not a number.
        """
        path = raw / self.file
        by_patient = self.orientation == "patients_as_rows"
        side, other = (self.id, self.gene) if by_patient else (self.gene, self.id)
        frame = read_table(path, numeric=True, text=[side.column or ""])
        names = keys(frame, path, Column(column=side.column or "", pattern=side.pattern))
        cells = keys(frame, path, Column(column=side.column or ""))
        headers = match_headers([c for c in frame.columns if c != side.column], other.pattern)
        if not headers:
            field = "id" if not by_patient else "gene"
            raise InputError(path, f"no column matches {other.pattern!r}", f"Correct expression.{field}")
        body = to_float(frame[list(headers)], path)
        body = body.set_axis(names.to_list(), axis=0).set_axis(list(headers.values()), axis=1)
        if by_patient:
            rows = zip(names, cells, frame.index, strict=True)
            samples = [Sample(patient, cell, file=self.file, row=int(row)) for patient, cell, row in rows]
            return RawMatrix(body, path, samples)
        samples = [Sample(patient, name.strip(), file=self.file) for name, patient in headers.items()]
        others = [str(c) for c in frame.columns if c != side.column and c not in headers]
        reason = f"its header does not match expression.id ({other.pattern})"
        excluded = [(Sample("", name, file=self.file), reason) for name in others]
        return RawMatrix(body.T, path, samples, excluded)
