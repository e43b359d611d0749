"""What every format of spatial expression has in common: a section of the cohort's YAML that reads one slide.

A new format is a new file in this folder: a subclass of `SpatialFormat` whose field `format` is a ``Literal`` with its
tag, and whose `read_section` returns a `SpatialSection`. `registry` finds it; nothing else changes.
"""

import re
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, PositiveFloat, model_validator

from dml.config.params import Section
from dml.core.errors import InputError
from dml.readers.region_units import RegionUnits

SPOT_COLUMNS = ("spot_id", "array_x", "array_y", "x_px", "y_px", "on_tissue")
"""Of the table of spots that a reader returns."""


@dataclass(frozen=True, slots=True)
class SpatialSection:
    """Spots and counts of one slide.

    Attributes
    ----------
    spots : DataFrame
        spot_id (unique), array_x and array_y (position on the array in units of the spot spacing), x_px and y_px
        (centre of the spot in level-0 pixels of the slide), on_tissue (as the table says; True where it says nothing).
    spot_ids : tuple of str
        Names of the rows of `counts`, as in the file; once aligned, those of `spots`.
    counts : csr_matrix [len(spot_ids), n_genes]
        As in the file, never dense.
    genes : tuple of str
        Names of the columns of `counts`, as in the file.
    where, where_spots : Path
        The files of counts and of spots, for messages.
    """

    spots: pd.DataFrame
    spot_ids: tuple[str, ...]
    counts: Any
    genes: tuple[str, ...]
    where: Path
    where_spots: Path


class RegionTable(Section):
    """A table with one row a spot and the region that a pathologist assigned to it."""

    file: str = Field(description="relative to `raw`; {slide} is the slide id")
    section: str | None = Field(default=None, description="column with the slide id, where a file has several slides")
    spot: str = Field(default="spot", description="column with the spot id")
    column: str = Field(default="region", description="column with the region")


class ProportionTable(Section):
    """A table with one row a spot and one column a cell type: shares of the spot's cells (or of its counts)."""

    file: str = Field(description="relative to `raw`; {slide} is the slide id")
    section: str | None = Field(default=None, description="column with the slide id, where a file has several slides")
    spot: str | None = Field(default=None, description="column with the spot id; default: the first column")
    unknown_in: tuple[str, ...] = Field(
        default=(), description="regions whose cells the deconvolution's reference lacks: proportions are unknown there"
    )


class Annotations(Section):
    """Tables that are joined to the spots by spot id; spots that a table lacks are unknown in it."""

    region: RegionTable | None = None
    proportions: ProportionTable | None = None

    @model_validator(mode="after")
    def _check_mask(self) -> "Annotations":
        if self.proportions is not None and self.proportions.unknown_in and self.region is None:
            raise ValueError("proportions.unknown_in: names regions, so `region` is needed")
        return self


class SpatialFormat(Section):
    """Geometry of the array, names of genes, and annotations; the same for every format."""

    spacing_um: PositiveFloat = Field(description="distance between the centres of neighbouring spots in microns")
    spot_diameter_um: PositiveFloat = Field(description="diameter of a spot in microns")
    symbols: Literal["as_written", "approved"] = Field(
        default="as_written", description="approved: Ensembl ids and former symbols become HGNC symbols, by a table"
    )
    min_matched: float = Field(
        default=0.8, gt=0, le=1, description="share of spots, and of rows of counts, that must have the same ids"
    )
    annotations: Annotations = Annotations()
    regions: RegionUnits | None = Field(default=None, description="cut sections into regions that are learnt from")

    @model_validator(mode="after")
    def _check_geometry(self) -> "SpatialFormat":
        if self.spot_diameter_um > self.spacing_um:
            raise ValueError(f"spot_diameter_um ({self.spot_diameter_um:g}) is above spacing_um ({self.spacing_um:g})")
        return self

    @abstractmethod
    def read_tables(self, raw: Path, slide_id: str) -> SpatialSection:
        """Read spots and counts of one slide from the folder `raw`, each in the order and with the ids of its file.

        Raises
        ------
        InputError
            If a file is missing or not what the description says.
        """


def fill_slide(pattern: str, slide_id: str) -> str:
    """Return the path of one slide's file: ``{slide}`` becomes the slide id.

    Raises
    ------
    InputError
        If the pattern has another name in braces.

    Examples
    --------
    >>> fill_slide("spots/{slide}_selection.tsv", "C2")
    'spots/C2_selection.tsv'
    """
    if others := [name for name in re.findall(r"\{([^}]*)\}", pattern) if name != "slide"]:
        raise InputError(pattern, f"{{{others[0]}}} is not known", "Only {slide}, the slide id, may stand in a path")
    return pattern.replace("{slide}", slide_id)
