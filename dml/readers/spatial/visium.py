"""Visium: the folder that Space Ranger writes (``outs``), read with h5py.

``filtered_feature_bc_matrix.h5`` (feature-barcode matrix of version 3: a CSC matrix of features by barcodes),
``spatial/tissue_positions.csv`` (Space Ranger 2 and later; before it ``tissue_positions_list.csv``, without header) and
``spatial/scalefactors_json.json``. Layouts: 10x Genomics, support.10xgenomics.com/spatial-gene-expression.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from dml.core.errors import InputError, listed, refuse_unreadable
from dml.core.hdf5 import get_local
from dml.core.limited_process import call_limited
from dml.readers.archives import existing, read_text
from dml.readers.h5ad_parts import read_array, to_text
from dml.readers.spatial.image_scale import ScaledFormat, array_places, make_spots
from dml.readers.spatial.spatial_format import SpatialSection, fill_slide
from dml.readers.table_files import column, numbers, read_table

MATRIX = "filtered_feature_bc_matrix.h5"
POSITIONS = ("tissue_positions.csv", "tissue_positions.parquet", "tissue_positions_list.csv")
SCALES = "scalefactors_json.json"
COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
EXPRESSION = "Gene Expression"
"""Type of the features that are genes (others: antibodies, probes)."""


class Visium(ScaledFormat):
    """One Space Ranger folder a slide."""

    format: Literal["visium"]
    folder: str = Field(description="with the matrix and `spatial`, relative to `raw`; {slide} is the slide id")
    matrix: str = Field(default=MATRIX, description="name of the matrix in `folder`")

    def read_tables(self, raw: Path, slide_id: str) -> SpatialSection:
        """Read positions, matrix and scale factors.

        Raises
        ------
        InputError
            If a file is missing or is not of Space Ranger.
        """
        folder = raw / fill_slide(self.folder, slide_id)
        where, spatial = existing(folder / self.matrix), folder / "spatial"
        scale = self.read_scale(_read_factors(spatial / SCALES), spatial / SCALES)
        where_spots, positions = _read_positions(spatial)
        with refuse_unreadable(where, "Is it a feature-barcode matrix of Space Ranger? Copy it again"):
            barcodes, genes, counts = call_limited(where, _read_matrix, where)
        frame = positions[positions["barcode"].isin(set(barcodes)) | (positions["in_tissue"] > 0)]
        pixels = frame[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(np.float64) * scale
        places = array_places(frame["array_row"].to_numpy(), frame["array_col"].to_numpy())
        spots = make_spots(list(frame["barcode"]), places, pixels, frame["in_tissue"].to_numpy() > 0)
        return SpatialSection(spots, tuple(barcodes), counts, tuple(genes), where, where_spots)


def _read_factors(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with refuse_unreadable(path, "Copy the file of Space Ranger again"):
        factors = json.loads(read_text(path))
    if not isinstance(factors, dict):
        raise InputError(path, "no scale factors, but a list or a value", "Copy the file of Space Ranger again")
    return factors


def _read_positions(folder: Path) -> tuple[Path, pd.DataFrame]:
    path = next((folder / name for name in POSITIONS if (folder / name).is_file()), None)
    if path is None:
        raise InputError(folder, f"no {' or '.join(POSITIONS)}", "Copy the folder `spatial` of Space Ranger's outs")
    frame = _read_headless(path) if path.name == POSITIONS[2] else read_table(path)
    cells = {name: column(frame, path, name) for name in COLUMNS}
    table = pd.DataFrame({name: numbers(cells[name], path) for name in COLUMNS[1:]})
    if table.isna().any(axis=None):
        raise InputError(path, f"empty cells in {listed(list(table.columns[table.isna().any()]))}", "Copy it again")
    table["barcode"] = cells["barcode"].astype(str).str.strip()
    if (again := table["barcode"].duplicated()).any():
        raise InputError(path, f"repeated barcodes: {listed(sorted(set(table['barcode'][again])))}", "Copy it again")
    return path, table


def _read_headless(path: Path) -> pd.DataFrame:
    """Read a list of positions; its first line is a spot, not a header."""
    with refuse_unreadable(existing(path), "Copy it again"):
        frame = pd.read_csv(path, header=None, dtype=str)
    if frame.shape[1] != len(COLUMNS):
        raise InputError(path, f"{frame.shape[1]} columns, not {len(COLUMNS)}", f"They are {', '.join(COLUMNS)}")
    frame = frame.set_axis(list(COLUMNS), axis=1).set_axis(range(1, len(frame) + 1), axis=0)
    return frame[frame["barcode"] != COLUMNS[0]]  # some tools add a header


def _read_matrix(path: Path) -> tuple[list[str], list[str], Any]:
    """Return barcodes, names of genes, and counts as csr_matrix [barcodes, genes]."""
    import h5py

    with h5py.File(path, "r") as file:
        if "matrix" not in file:
            problem = f"no group `matrix`; it has {listed(sorted(file))}"
            raise InputError(path, problem, "Give filtered_feature_bc_matrix.h5 of Space Ranger 1 or later")
        group = get_local(path, file, "matrix")
        features = get_local(path, group, "features")
        barcodes = [str(to_text(cell)) for cell in read_array(path, get_local(path, group, "barcodes"))]
        names, types = ([to_text(cell) or "" for cell in read_array(path, get_local(path, features, part))]
                        for part in ("name", "feature_type"))  # fmt: skip
        data, indices, indptr = (
            read_array(path, get_local(path, group, part)) for part in ("data", "indices", "indptr")
        )
    # features by barcodes, column by column, is barcodes by features, row by row
    counts = sparse.csr_matrix((data.astype(np.float64), indices, indptr), shape=(len(barcodes), len(names)))
    counts.check_format(full_check=True)
    genes = [i for i, kind in enumerate(types) if kind == EXPRESSION]
    return barcodes, [names[i] for i in genes], counts[:, genes]
