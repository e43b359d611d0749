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


def _parse_time(value: Any) -> Any:
    """Divide a list of time columns: `days_to_death` is for the dead, `days_to_last_follow_up` for the others."""
    if isinstance(value, str):
        return {"dead": [value], "alive": [value]}
    if not isinstance(value, list | tuple):
        return value
    death = [name for name in value if re.search(r"death|died|deceas", str(name), re.IGNORECASE)]
    if not death or len(death) == len(value):
        return {"dead": list(value), "alive": list(value)}
    return {"dead": death, "alive": [name for name in value if name not in death]}


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


class TimeColumns(Section):
    """Columns with the time of an event and with that of the last follow-up; of several the first filled one counts."""

    dead: Columns = Field(min_length=1)
    alive: Columns = Field(min_length=1)


class SurvivalColumns(Section):
    """Follow-up: for the dead the day of death, for the others the last follow-up."""

    time: Annotated[TimeColumns, BeforeValidator(_parse_time)] = Field(
        description="{dead: columns, alive: columns}; of a list, columns named after death are for the dead alone"
    )
    unit: Literal["days", "weeks", "months", "years"] = Field(description="a month is 30.4375 days, a year 365.25")
    event: str = Field(default="", description="empty: the table holds times of patients whose event another one knows")
    dead: Cells = Field(default=(), description="values of the event column that mean: the patient died")
    alive: Cells = Field(default=(), description="values that mean: alive at last follow-up, censored")
    unknown: Cells = Field(default=(), description="further values that mean: not known")
    rows: Literal["agree", "latest"] | None = Field(
        default=None,
        description="several rows a patient: must agree, or the latest counts (default where time says follow)",
    )
    confirmed: bool = Field(
        default=False, description="true: unit and event are right although names of columns speak against them"
    )

    @model_validator(mode="after")
    def _check_coding(self) -> "SurvivalColumns":
        if self.event and not (self.dead and self.alive):
            raise ValueError("`dead` and `alive` must list the values of the event column")
        return self

    @property
    def longitudinal(self) -> bool:
        """Whether of several rows of a patient the latest counts."""
        named = any("follow" in name.casefold() for name in self.time.alive)
        return self.rows == "latest" or (self.rows is None and named)


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


CLASS = re.compile(r"^\w(?:[\w .-]*\w)?$")
"""Names of classes become columns of tables and keys of runs, which allow no others."""


class Label(Section):
    """A target and where it comes from: classes in order (ordinal ones from low to high), or with `kind` a number."""

    kind: Literal["class", "number"] = Field(default="class", description="number: a target of regression")
    classes: tuple[Cell, ...] = Field(default=(), description="two or more; none of a number")
    unit: str = Field(default="", description="of a number, as reports print it")
    range: tuple[float, float] | None = Field(default=None, description="of a number: lowest and highest; else refused")
    sources: tuple[LabelSource, ...] = Field(description="the first source that knows a patient wins")
    description: str = ""

    @model_validator(mode="after")
    def _has_sources(self) -> "Label":
        if not self.sources:
            raise ValueError("`sources` is empty; name at least one table and column")
        return self

    @model_validator(mode="after")
    def _is_number(self) -> "Label":
        if self.kind == "class":
            if self.unit or self.range is not None:
                raise ValueError("`unit` and `range` are of numbers: add `kind: number`, or remove them")
            return self
        if self.classes or any(source.values for source in self.sources):
            raise ValueError("a number has neither `classes` nor `values`; remove them, or `kind: number`")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range: the lowest number comes first, not {list(self.range)}")
        return self

    @model_validator(mode="after")
    def _known_classes(self) -> "Label":
        if self.kind == "number":
            return self
        allowed = ", ".join(self.classes)
        if len(self.classes) < 2:
            raise ValueError("classes: name at least two, or `kind: number` for a target that is a number")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes are repeated: {allowed}")
        if odd := [name for name in self.classes if not CLASS.match(name)]:
            example = f"values: {{{odd[0]!r}: {re.sub(r'[^0-9A-Za-z]+', '_', odd[0]).strip('_') or 'name'}}}"
            raise ValueError(
                f"classes may hold letters, digits, blanks, _ . and - only, unlike {listed(odd)}; "
                f"name them anew and map the cells in `sources`, e.g. {example}"
            )
        if len({name.casefold() for name in self.classes}) != len(self.classes):
            raise ValueError(f"classes differ in upper and lower case only: {allowed}")
        unknown = [v for source in self.sources for v in source.values.values() if v not in self.classes]
        if unknown:
            raise ValueError(f"values lead to {listed(unknown)}, but the classes are {allowed}")
        return self
