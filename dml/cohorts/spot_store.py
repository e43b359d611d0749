"""Spots and their counts as files of a cohort, ``data/<cohort>/spots.parquet`` and ``spot_counts.parquet``.

spots.parquet has one row a spot; its metadata hold the spacing and the diameter of the spots in microns.
spot_counts.parquet is long and sparse: spot (row number in spots.parquet), gene, count; its metadata hold all genes in
order. A cohort without spatial expression has both files without rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

from dml.core.errors import InputError, listed, refuse_unreadable
from dml.core.files import read_parquet, write_parquet

SPOTS, COUNTS = "spots.parquet", "spot_counts.parquet"
PROPORTION = "proportion."
"""How columns with the share of a cell type begin."""
REGION = "region"
_AGAIN = "Delete it and run: dvc repro spots"
_FIELDS = (
    pa.field("section_id", pa.string()),
    pa.field("patient_id", pa.string()),
    pa.field("spot_id", pa.string()),
    pa.field("array_x", pa.float64()),
    pa.field("array_y", pa.float64()),
    pa.field("x_px", pa.float64()),
    pa.field("y_px", pa.float64()),
    pa.field("on_tissue", pa.bool_()),
    pa.field("n_counts", pa.float64()),
    pa.field("n_genes", pa.int64()),
)


@dataclass(frozen=True, slots=True)
class SpotTable:
    """The spots of a cohort, or of one section of it.

    Attributes
    ----------
    spots : DataFrame
        One row a spot: section_id (the slide), patient_id, spot_id (unique within a section), array_x and array_y
        (position on the array in units of the spot spacing), x_px and y_px (centre in level-0 pixels), on_tissue,
        n_counts, n_genes; where the cohort has them `region` (text, null where unknown) and ``proportion.<cell type>``
        (NaN where unknown).
    counts : csr_matrix [n_spots, n_genes]
        Counts, float32, never dense.
    genes : tuple of str
        Symbols of the columns of `counts`, in alphabetical order.
    spacing_um, spot_diameter_um : float
        Distance between neighbouring spots, and their diameter, in microns; NaN without spots.
    """

    spots: pd.DataFrame
    counts: Any
    genes: tuple[str, ...]
    spacing_um: float
    spot_diameter_um: float

    @property
    def sections(self) -> tuple[str, ...]:
        """Ids of the sections in their order."""
        return tuple(dict.fromkeys(self.spots["section_id"]))

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Cell types that have proportions."""
        return tuple(str(name).removeprefix(PROPORTION) for name in self.spots if str(name).startswith(PROPORTION))

    def section(self, section_id: str) -> "SpotTable":
        """Return the spots of one section, with all genes.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        rows = np.flatnonzero(self.spots["section_id"] == section_id)
        if not len(rows):
            raise KeyError(section_id)
        spots = self.spots.iloc[rows].reset_index(drop=True)
        return SpotTable(spots, self.counts[rows], self.genes, self.spacing_um, self.spot_diameter_um)


def empty_spots() -> SpotTable:
    """Return the table of a cohort without spatial expression."""
    spots: pd.DataFrame = pa.schema(_FIELDS).empty_table().to_pandas()
    return SpotTable(spots, sparse.csr_matrix((0, 0), dtype=np.float32), (), float("nan"), float("nan"))


def write_spots(folder: Path, table: SpotTable) -> None:
    """Write spots.parquet and spot_counts.parquet into ``data/<cohort>``."""
    spots = table.spots
    optional = [pa.field(REGION, pa.string())] if REGION in spots else []
    optional += [pa.field(f"{PROPORTION}{name}", pa.float64()) for name in table.cell_types]
    schema = pa.schema([*_FIELDS, *optional])
    sizes = {} if not len(spots) else {"spacing_um": table.spacing_um, "spot_diameter_um": table.spot_diameter_um}
    rows = pa.Table.from_pandas(spots[schema.names], schema=schema, preserve_index=False)
    write_parquet(folder / SPOTS, rows, sizes)
    cells = table.counts.tocoo()
    genes = pa.DictionaryArray.from_arrays(pa.array(cells.col, pa.int32()), pa.array(table.genes, pa.string()))
    columns = {"spot": pa.array(cells.row, pa.int32()), "gene": genes, "count": pa.array(cells.data, pa.float32())}
    write_parquet(folder / COUNTS, pa.table(columns), {"genes": list(table.genes)}, compression="zstd")


def read_spot_positions(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read spots.parquet alone: the spots, and the metadata spacing_um and spot_diameter_um.

    Raises
    ------
    InputError
        If the file is missing or damaged, or lacks a column.
    """
    path = folder / SPOTS
    table, metadata = read_parquet(path)
    if absent := [field.name for field in _FIELDS if field.name not in table.column_names]:
        raise InputError(path, f"no column {listed(absent)}", _AGAIN)
    spots: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    return spots, metadata


def read_spots(folder: Path) -> SpotTable:
    """Read what `write_spots` wrote.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the files do not belong together.
    """
    spots, metadata = read_spot_positions(folder)
    path = folder / COUNTS
    table, described = read_parquet(path)
    with refuse_unreadable(path, _AGAIN):
        genes = tuple(described["genes"])
        codes = table["gene"].combine_chunks()
        if isinstance(codes, pa.DictionaryArray):
            codes = codes.dictionary_decode()
        columns = pd.Index(genes).get_indexer(codes.to_pandas()) if len(table) else np.array([], np.int64)
        places = table["spot"].to_numpy(), columns
        if len(table) and (columns.min() < 0 or places[0].max() >= len(spots)):
            raise InputError(path, f"it has spots or genes that {SPOTS} has not", _AGAIN)
        counts = sparse.csr_matrix((table["count"].to_numpy(), places), (len(spots), len(genes)), dtype=np.float32)
    nan = float("nan")
    sizes = float(metadata.get("spacing_um", nan)), float(metadata.get("spot_diameter_um", nan))
    return SpotTable(spots, counts, genes, *sizes)


def stack_spots(parts: Sequence[SpotTable]) -> SpotTable:
    """Stack the spots of several sections; a gene that a section does not list has no count there."""
    genes = tuple(sorted({gene for part in parts for gene in part.genes}))
    counts = sparse.vstack([_reorder(part.counts, part.genes, genes) for part in parts], format="csr")
    spots = pd.concat([part.spots for part in parts], ignore_index=True)
    return SpotTable(spots, counts.astype(np.float32), genes, parts[0].spacing_um, parts[0].spot_diameter_um)


def _reorder(counts: Any, genes: Iterable[str], wanted: Sequence[str]) -> Any:
    """Sum the columns of one name and bring them into the wanted order."""
    columns = pd.Index(wanted).get_indexer(pd.Index(list(genes)))
    assignment = sparse.csr_matrix(
        (np.ones(len(columns)), (np.arange(len(columns)), columns)), (len(columns), len(wanted))
    )
    return counts @ assignment
