"""Slides, imported features, expression and gene groups of a cohort description: the part that is measured."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from dml.cohorts.columns import Key, Pattern, columned
from dml.config import Section

Unit = Literal["counts", "tpm", "fpkm", "fpkm_uq", "log2_cpm", "log2_tpm", "log2_fpkm", "log2_fpkm_uq", "zscore"]
"""Scale of an expression matrix; log2_x means log2(x + 1)."""


class SlideTable(Section):
    """A table with one row a slide. Paths are relative to `raw`."""

    file: str
    id: Key
    patient: Key
    path: str | None = Field(default=None, description="column with the file; without it only imported features exist")
    mpp: str | PositiveFloat | None = Field(default=None, description="column, or a number: used where a file has none")


class SlideFolder(Section):
    """A folder of slide files (searched recursively)."""

    folder: str
    slide: Pattern = Field(default=r"(.+)\.(?:svs|tiff?|ndpi|mrxs|scn|vms|bif)$", description="file name -> slide id")
    patient: Pattern = Field(description="slide id -> patient id")
    mpp: PositiveFloat | None = Field(default=None, description="used where a file has none")


class Slides(Section):
    """Either a table or a folder."""

    table: SlideTable | None = None
    folder: SlideFolder | None = None

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


class AxisNames(Section):
    """Names along one side of a matrix: a column, or (no column) the headers; `pattern` marks the part that counts."""

    column: str | None = None
    pattern: Pattern | None = Field(default=None, description="headers that do not match are left out")


Axis = Annotated[AxisNames, BeforeValidator(columned)]


class ExpressionTable(Section):
    """One matrix. Of `id` and `gene` one is a column, the other the headers of the remaining columns."""

    file: str
    orientation: Literal["patients_as_rows", "genes_as_rows"]
    id: Axis = Field(default=AxisNames(), description="patients; a pattern shortens sample barcodes")
    gene: Axis = Field(default=AxisNames(), description="gene symbols, e.g. {pattern: '(.+)_rnaseq'}")
    unit: Unit = Field(description="what the file holds")
    convert: Unit | None = Field(default=None, description="what is stored; default: log2(x + 1) of what is linear")
    repeats: Literal["identical", "mean", "first"] = Field(
        default="identical", description="several rows of one patient: must agree, are averaged, or the first counts"
    )
    source: str = ""

    @model_validator(mode="after")
    def _key_column(self) -> "ExpressionTable":
        field, other = ("id", "gene") if self.orientation == "patients_as_rows" else ("gene", "id")
        if getattr(self, field).column is None or getattr(self, other).column is not None:
            raise ValueError(
                f"{self.orientation}: `{field}` must name a column, `{other}` only a pattern of the headers"
            )
        return self


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
    """Which genes speak for the tumor and which for its microenvironment; a gene in both belongs to tme."""

    resource: str | None = Field(default=None, description="a shipped list: dml/cohorts/resources/<name>.yaml")
    tumor: tuple[GeneSets, ...] = ()
    tme: tuple[GeneSets, ...] = ()
    restrict_to_measured: bool = Field(
        default=False, description="the table is a panel: keep only its genes; `min_genes` is the floor, not coverage"
    )
    min_genes: PositiveInt = Field(default=10, description="measured genes that each group must have")
    provenance: str = ""

    @model_validator(mode="after")
    def _one(self) -> "Groups":
        composed = bool(self.tumor) or bool(self.tme)
        if (self.resource is not None) == composed or bool(self.tumor) != bool(self.tme):
            raise ValueError("give either `resource`, or both `tumor` and `tme`")
        return self


def resourced(value: Any) -> Any:
    """Accept a plain string as the name of a shipped list."""
    return {"resource": value} if isinstance(value, str) else value
