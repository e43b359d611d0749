"""Spatial Transcriptomics as text tables: one table of spots, one table of counts (as almaan/her2st publishes them).

Spots: array places ``x``, ``y`` and pixels ``pixel_x``, ``pixel_y``. Counts: one row a spot, named ``XxY`` by its array
place, one column a gene. Layout: Andersson et al. 2021, doi 10.1038/s41467-021-26271-2.
"""

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from dml.config.params import Section
from dml.core.errors import InputError, listed
from dml.core.limited_process import call_limited
from dml.readers.columns import Column
from dml.readers.spatial.spatial_format import SpatialFormat, SpatialSection, fill_slide
from dml.readers.table_files import column, keys, numbers, read_table, rows

logger = logging.getLogger(__name__)

SELECTED = "selected"
"""Column of ST spot tables with 1 for a spot under tissue."""
_BLOCK = 2048  # genes that are made sparse at once


class SpotColumns(Section):
    """Names of the columns of the table of spots."""

    array_x: str = "x"
    array_y: str = "y"
    x_px: str = "pixel_x"
    y_px: str = "pixel_y"
    id: str | None = Field(default=None, description="column with the spot id; default: <array_x>x<array_y>")
    on_tissue: str | None = Field(
        default=None, description="column with 1 or 0; default: `selected` where there is one, else all are on tissue"
    )


class SpotTables(SpatialFormat):
    """A table of spots and a table of counts for each slide."""

    format: Literal["st_tsv"]
    spots: str = Field(description="relative to `raw`; {slide} is the slide id")
    counts: str = Field(description="relative to `raw`; {slide} is the slide id")
    columns: SpotColumns = SpotColumns()
    orientation: Literal["spots_as_rows", "genes_as_rows"] = Field(default="spots_as_rows", description="of `counts`")

    def read_tables(self, raw: Path, slide_id: str) -> SpatialSection:
        """Read both tables.

        Raises
        ------
        InputError
            If a file or column is missing, a cell is not a number, or the counts are transposed.
        """
        where_spots, where = raw / fill_slide(self.spots, slide_id), raw / fill_slide(self.counts, slide_id)
        spots = _read_spots(where_spots, self.columns)
        by_spot = self.orientation == "spots_as_rows"
        row_names, headers, counts = call_limited(where, _read_counts, where)
        names, genes = (row_names, headers) if by_spot else (headers, row_names)
        known = set(spots["spot_id"])
        if not known.intersection(names) and len(known.intersection(genes)) > len(known) / 2:
            other = "genes_as_rows" if by_spot else "spots_as_rows"
            problem = f"its {'columns' if by_spot else 'rows'} are spots ({listed(genes, 3)})"
            raise InputError(where, problem, f"Say `orientation: {other}` under `spatial`")
        counts = counts if by_spot else counts.T.tocsr()
        return SpatialSection(spots, tuple(names), counts, tuple(genes), where, where_spots)


def _read_spots(path: Path, names: SpotColumns) -> pd.DataFrame:
    """Read the table of spots; a place that is no whole number is rounded for the spot's id, as ST counts name it."""
    frame = read_table(path)
    wanted = {"array_x": names.array_x, "array_y": names.array_y, "x_px": names.x_px, "y_px": names.y_px}
    spots = pd.DataFrame({key: _filled(frame, path, name) for key, name in wanted.items()}, index=frame.index)
    if names.id is not None:
        spots["spot_id"] = keys(frame, path, Column(column=names.id))
    else:
        places = spots[["array_x", "array_y"]].round().astype(np.int64)
        spots["spot_id"] = places["array_x"].astype(str) + "x" + places["array_y"].astype(str)
    selected = names.on_tissue or (SELECTED if SELECTED in frame.columns else None)
    spots["on_tissue"] = True if selected is None else _filled(frame, path, selected) > 0
    if (again := spots["spot_id"].duplicated(keep=False)).any():
        problem = f"repeated spots: {listed(sorted(set(spots['spot_id'][again])))} in {rows(again)}"
        raise InputError(path, problem, "Each spot has one row; delete the others")
    return spots


def _filled(frame: pd.DataFrame, path: Path, name: str) -> pd.Series:
    cells = numbers(column(frame, path, name), path)
    if cells.isna().any():
        raise InputError(path, f"column {name!r} is empty in {rows(cells.isna())}", "Fill in or delete the rows")
    return cells


def _read_counts(path: Path) -> tuple[list[str], list[str], Any]:
    """Return names of rows, names of columns, and the cells as csr_matrix."""
    frame = read_table(path, numeric=True, text=[0])
    first, headers = str(frame.columns[0]), [str(name) for name in frame.columns[1:]]
    names = list(keys(frame, path, Column(column=first)))
    if (again := pd.Series(names, index=frame.index).duplicated(keep=False)).any():
        repeated = sorted({name for name, twice in zip(names, again, strict=True) if twice})
        problem = f"repeated names of rows: {listed(repeated)} in {rows(again)}"
        raise InputError(path, problem, "Each row of counts has one name; delete the others")
    blocks = []
    for start in range(0, len(headers), _BLOCK):
        cells = frame.iloc[:, 1 + start : 1 + start + _BLOCK]
        for name in cells.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in cells.dtypes]]:
            numbers(column(frame, path, str(name)), path)
            raise InputError(path, f"column {name!r} holds no numbers", "Delete it, or correct its cells")
        if (empty := cells.isna().any(axis=1)).any():
            problem = f"empty cells in {rows(empty)}, columns {listed(list(cells.columns[cells.isna().any()]))}"
            raise InputError(path, problem, "A gene that is not counted in a spot is 0")
        blocks.append(sparse.csc_matrix(cells.to_numpy(np.float64)))
    return names, headers, sparse.hstack(blocks, format="csr") if blocks else sparse.csr_matrix((len(names), 0))
