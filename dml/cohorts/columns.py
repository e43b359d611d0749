"""Cells, columns, patient tables and labels of a cohort description."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dml.config.params import Section
from dml.core.errors import listed


def canonical(cell: str) -> str:
    """Return a cell's text as it is compared: trimmed, and 1.0 like 1."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", cell.strip())


def _parse_pattern(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"must have exactly one group (...) that marks the part to keep, it has {groups}")
    return value


def _parse_cell(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("YAML reads this as true or false; write the cell's text in quotes")
    return canonical(str(value)) if isinstance(value, int | float | str) else value


def _parse_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


def parse_column(value: Any) -> Any:
    """Accept a plain string as the name of a column."""
    return {"column": value} if isinstance(value, str) else value


Pattern = Annotated[str, BeforeValidator(_parse_pattern)]
"""A regular expression with exactly one group: the part of a cell or name that counts."""
Cell = Annotated[str, BeforeValidator(_parse_cell)]
Cells = Annotated[tuple[Cell, ...], BeforeValidator(_parse_list)]
Columns = Annotated[tuple[str, ...], BeforeValidator(_parse_list)]


class Column(Section):
    """A column of a table and, if only a part of its cells counts, the pattern of that part."""

    column: str
    pattern: Pattern | None = Field(default=None, description="e.g. '^(TCGA-..-....)': patient of a sample barcode")


Key = Annotated[Column, BeforeValidator(parse_column)]
"""A `Column`, or just its name."""


class SurvivalColumns(Section):
    """Follow-up. Of several `time` columns (days_to_death, days_to_last_follow_up) the first filled one counts."""

    time: Columns = Field(min_length=1)
    unit: Literal["days", "months", "years"] = Field(description="a month is 30.4375 days, a year 365.25")
    event: str
    dead: Cells = Field(min_length=1, description="values of the event column that mean: the patient died")
    alive: Cells = Field(min_length=1, description="values that mean: alive at last follow-up, censored")
    unknown: Cells = Field(default=(), description="further values that mean: not known")


class Age(Section):
    """Age at diagnosis; `minus_days` is GDC's days_to_birth (negative days)."""

    column: str
    unit: Literal["years", "months", "days", "minus_days"] = "years"


class Sex(Section):
    """Sex and the coding of its column."""

    column: str
    female: Cells = ("female",)
    male: Cells = ("male",)
    unknown: Cells = ()


class PatientTable(Section):
    """A table with one or more rows a patient (repeated rows must agree). Earlier tables win, field by field."""

    name: str = Field(default="", description="how labels and survival_source refer to it; default: the file's stem")
    file: str = Field(description="csv, tsv, txt, parquet, also .gz or .zip; relative to `raw`")
    id: Key
    where: dict[str, Cells] = Field(
        default_factory=dict, description="column: values; other rows are not read (e.g. only primary diagnoses)"
    )
    site: Key | None = Field(default=None, description="the hospital; a pattern can take it out of an id")
    survival: SurvivalColumns | None = None
    age: Age | None = None
    sex: Sex | None = None

    @property
    def key(self) -> str:
        """The name of this table."""
        return self.name or Path(self.file).name.split(".")[0]


class LabelSource(Section):
    """Where a label is written down. Values that are not listed fail, so that no spelling is lost silently."""

    table: str = Field(description="name of a table under `patients`")
    column: str
    values: dict[Cell, str] = Field(default_factory=dict, description="cell -> class; default: the classes themselves")
    unknown: Cells = Field(default=(), description="cells that mean: not known (empty cells always do)")


class Label(Section):
    """A classification target: its classes in order (ordinal ones from low to high) and where it comes from."""

    classes: tuple[Cell, ...] = Field(min_length=2)
    sources: tuple[LabelSource, ...] = Field(description="the first source that knows a patient wins")
    description: str = ""

    @model_validator(mode="after")
    def _known_classes(self) -> "Label":
        allowed = ", ".join(self.classes)
        if not self.sources:
            raise ValueError("`sources` is empty; name at least one table and column")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes are repeated: {allowed}")
        unknown = [v for source in self.sources for v in source.values.values() if v not in self.classes]
        if unknown:
            raise ValueError(f"values lead to {listed(unknown)}, but the classes are {allowed}")
        return self
