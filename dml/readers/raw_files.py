"""Slides, imported features and gene groups of a cohort description; expression is in `readers`."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dml.config.params import Section
from dml.readers.columns import Key, Pattern
from dml.readers.slide_files import SLIDE_PATTERN


class SpotSpacing(Section):
    """The resolution follows from the spots: their known distance in microns over their distance in pixels."""

    source: Literal["spots"] = Field(alias="from")
    spacing_um: PositiveFloat | None = Field(default=None, description="default: that of `spatial`")


class SlideTable(Section):
    """A table with one row a slide. Paths are relative to `raw`."""

    file: str
    id: Key
    patient: Key
    path: str | None = Field(default=None, description="column with the file; without it only imported features exist")
    mpp: str | PositiveFloat | SpotSpacing | None = Field(
        default=None, description="column, number, or {from: spots}: used where a file has none"
    )
    fields: str | None = Field(
        default=None,
        description="boxes that tiles are cut inside: a column, or a file with slide_id, x, y, width, height [px]",
    )


class SlideFolder(Section):
    """A folder of slide files (searched recursively)."""

    folder: str
    slide: Pattern = Field(default=SLIDE_PATTERN, description="file name -> slide id")
    patient: Pattern | None = Field(default=None, description="slide id -> patient id")
    patient_id: str | None = Field(default=None, description="instead of `patient`: all slides are of this one")
    mpp: PositiveFloat | SpotSpacing | None = Field(
        default=None, description="number, or {from: spots}: used where a file has none"
    )

    @model_validator(mode="after")
    def _check_patient(self) -> "SlideFolder":
        if (self.patient is None) == (self.patient_id is None):
            raise ValueError("give either `patient` (slide id -> patient id) or `patient_id` (one for all slides)")
        return self


class Slides(Section):
    """Either a table or a folder."""

    table: SlideTable | None = None
    folder: SlideFolder | None = None
    mpp_from: Literal["file", "objective", "slide_list"] | None = Field(
        default=None, description="source of the resolution to trust where two contradict each other"
    )
    upsample: bool = Field(
        default=False, description="interpolate where tiles are finer than an image, instead of refusing the slide"
    )

    @model_validator(mode="after")
    def _one(self) -> "Slides":
        if (self.table is None) == (self.folder is None):
            raise ValueError("give either `table` or `folder`")
        return self


class Features(Section):
    """Patch features extracted elsewhere: a folder or zip with one file a slide (h5, pt, npy, npz, safetensors)."""

    path: str = Field(description="relative to `raw`")
    encoder: str
    width: PositiveInt
    mpp: PositiveFloat = Field(description="microns per pixel of the images that the encoder saw")
    tile_um: PositiveFloat = Field(description="side of what one vector describes, in microns")
    slide: Pattern = Field(default=r"(.+)\.[^.]+$", description="file name -> slide id")
    patient: Pattern | None = Field(
        default=None, description="slide id -> patient id; not needed with a table of slides"
    )
    tokens: str = Field(default="features", description="name of the array, where a file has several")
    coords: str | None = Field(default="coords", description="name of the coordinates, where a file has them")
    coords_mpp: PositiveFloat | None = Field(default=None, description="microns per unit of the coordinates")
    coords_at: Literal["corner", "centre"] = Field(default="corner", description="which point of a tile they are")


class GeneSets(Section):
    """Gene sets of one file.

    columns: one set a column; long: rows of (set, gene); gmt; lines: one gene a line; estimate: the spreadsheet of
    Yoshihara et al. 2013, one set a row.
    """

    file: str
    kind: Literal["columns", "long", "gmt", "lines", "estimate"] = "columns"
    select: tuple[str, ...] = Field(default=(), description="names of the sets; default: all of the file")
    set_column: str = Field(default="group", description="long: the column with the set")
    gene_column: str = Field(default="gene", description="long: the column with the gene")


class Groups(Section):
    """Genes of the tumor and genes of its microenvironment; a gene in both belongs to tme."""

    resource: str | None = Field(default=None, description="a shipped list: dml/cohorts/resources/<name>.yaml")
    file: str | None = Field(
        default=None, description="yaml, csv or gmt with the sets tumor and tme; for `hallmark` where its sets are"
    )
    tumor: tuple[GeneSets, ...] = ()
    tme: tuple[GeneSets, ...] = ()
    restrict_to_measured: bool = Field(
        default=False, description="the table is a panel: keep only its genes; `min_genes` is the floor, not coverage"
    )
    min_genes: PositiveInt = Field(default=10, description="measured genes that each group must have")
    provenance: str = ""

    @model_validator(mode="after")
    def _one(self) -> "Groups":
        composed, listed_ = bool(self.tumor) or bool(self.tme), bool(self.resource) or bool(self.file)
        if listed_ == composed or bool(self.tumor) != bool(self.tme):
            raise ValueError("give either `resource` or `file`, or both `tumor` and `tme`")
        return self


def parse_groups(value: Any) -> Any:
    """Accept a plain string: with a suffix it is a file in `raw`, else the name of a shipped list."""
    if not isinstance(value, str):
        return value
    return {"file" if Path(value).suffix else "resource": value}
