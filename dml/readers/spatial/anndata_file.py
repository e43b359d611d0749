"""AnnData files (.h5ad) with positions, as squidpy and scanpy write them, read with h5py.

``obsm['spatial']`` holds x and y in pixels of the full-resolution image, ``uns['spatial'][<library>]['scalefactors']``
the scale factors, ``obs`` the array places (array_row, array_col) and in_tissue where Space Ranger had them. Layout:
Palla et al. 2022, squidpy, doi 10.1038/s41592-021-01358-2.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from dml.core.errors import InputError, listed, refuse_unreadable
from dml.core.hdf5 import get_local
from dml.core.limited_process import call_limited
from dml.readers.archives import existing
from dml.readers.h5ad_parts import UnknownEncodingError, read_array, read_matrix, read_names
from dml.readers.spatial.image_scale import ScaledFormat, array_places, make_spots, places_of_pixels
from dml.readers.spatial.section_checks import ENSEMBL
from dml.readers.spatial.spatial_format import SpatialSection, fill_slide

SYMBOLS = ("gene_symbols", "gene_symbol", "gene_name", "gene_names", "feature_name", "symbol", "SYMBOL")
"""Columns of var with symbols, where its index holds Ensembl ids."""
_PARTS = tuple[list[str], list[str], Any, dict[str, Any]]


class SpatialAnnData(ScaledFormat):
    """An AnnData file a slide, or one with all slides and a column that names them."""

    format: Literal["anndata"]
    file: str = Field(description="relative to `raw`; {slide} is the slide id")
    section: str | None = Field(default=None, description="column of obs with the slide id, where a file has several")
    library: str | None = Field(
        default=None, description="key below uns['spatial']; default: the slide id, or the only"
    )
    layer: str = Field(default="X", description="raw counts: X, or the name of a layer")
    gene: str | None = Field(default=None, description="column of var with the symbol; default: the index of var")

    def read_tables(self, raw: Path, slide_id: str) -> SpatialSection:
        """Read positions, counts and scale factors.

        Raises
        ------
        InputError
            If the file is missing, is not AnnData, or has no positions.
        """
        path = existing(raw / fill_slide(self.file, slide_id))
        arguments = (path, self.layer, self.gene, self.section, self.library, slide_id)
        with refuse_unreadable(path, "Write it with anndata 0.7 or later"):
            names, genes, counts, parts = call_limited(path, _read, *arguments)
        scale = self.read_scale(parts["factors"], path)
        columns = parts["columns"]
        if len(parts["pixels"]) != len(names) or counts.shape != (len(names), len(genes)):
            raise InputError(path, "obs, obsm['spatial'] and counts differ in length", "Write it again")
        chosen = np.ones(len(names), bool)
        if self.section is not None:
            chosen = np.array([cell == slide_id for cell in columns[self.section]])
            if not chosen.any():
                there = listed(sorted({str(cell) for cell in columns[self.section]}))
                raise InputError(path, f"obs.{self.section} has no {slide_id}; it has {there}", "Correct `section`")
        rows = np.flatnonzero(chosen)
        pixels = parts["pixels"][rows]
        spots = make_spots([names[i] for i in rows], _places(columns, rows, pixels), pixels * scale,
                           _in_tissue(columns, rows))  # fmt: skip
        return SpatialSection(spots, tuple(names[i] for i in rows), counts[rows], tuple(genes), path, path)


def _places(
    columns: dict[str, Sequence[str | None]], rows: np.ndarray, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if "array_row" in columns and "array_col" in columns:
        at = (pd.to_numeric(pd.Series(list(columns[name])), errors="coerce") for name in ("array_row", "array_col"))
        row, col = (values.to_numpy(np.float64)[rows] for values in at)
        if np.isfinite(row).all() and np.isfinite(col).all():
            return array_places(row, col)
    places = places_of_pixels(pixels)
    return places[:, 0], places[:, 1]


def _in_tissue(columns: dict[str, Sequence[str | None]], rows: np.ndarray) -> np.ndarray:
    if "in_tissue" not in columns:
        return np.ones(len(rows), bool)
    return np.array([columns["in_tissue"][i] in ("1", "1.0", "True", "true") for i in rows])


def _read(path: Path, layer: str, gene: str | None, section: str | None, library: str | None, slide_id: str) -> _PARTS:
    """Return names of spots, names of genes, counts, and pixels, scale factors and columns of obs."""
    import h5py

    with h5py.File(path, "r") as file:
        try:
            matrix = read_matrix(path, file, layer)
            names = [str(name) for name in read_names(path, file, "obs", None)]
            genes = _read_genes(path, file, gene)
            obs = file["obs"]
            wanted = [name for name in ("array_row", "array_col", "in_tissue", section) if name and name in obs]
            columns = {name: read_names(path, file, "obs", name) for name in wanted}
        except UnknownEncodingError as unknown:
            raise InputError(path, str(unknown), "Read it with anndata and write it again") from None
        if section is not None and section not in columns:
            raise InputError(
                path, f"no column {section!r} in obs; it has {listed(sorted(obs), 12)}", "Correct `section`"
            )
        if "obsm" not in file or "spatial" not in file["obsm"]:
            raise InputError(path, "no positions: obsm['spatial'] is missing", "Write the file with its positions")
        pixels = read_array(path, get_local(path, get_local(path, file, "obsm"), "spatial"))
        if pixels.ndim != 2 or pixels.shape[1] < 2 or not np.isfinite(pixels[:, :2].astype(np.float64)).all():
            raise InputError(path, "obsm['spatial'] is not x and y of every spot", "Write the file with its positions")
        factors = _read_factors(path, file, library, slide_id)
    counts = sparse.csr_matrix(matrix)
    return names, genes, counts, {"pixels": pixels[:, :2].astype(np.float64), "factors": factors, "columns": columns}


def _read_genes(path: Path, file: Any, gene: str | None) -> list[str]:
    """Return symbols: of the column that is named, else the index; a column of symbols where the index holds ids."""
    genes = [str(name or "") for name in read_names(path, file, "var", gene)]
    ids = sum(bool(ENSEMBL.match(name)) for name in genes)
    symbols = next((name for name in SYMBOLS if name in file["var"]), None)
    if gene is not None or ids <= len(genes) / 2 or symbols is None:
        return genes
    named = read_names(path, file, "var", symbols)
    return [name or identifier for name, identifier in zip(named, genes, strict=True)]


def _read_factors(path: Path, file: Any, library: str | None, slide_id: str) -> dict[str, float] | None:
    if "uns" not in file or "spatial" not in file["uns"]:
        return None
    libraries = get_local(path, get_local(path, file, "uns"), "spatial")
    names = sorted(libraries)
    name = library or (slide_id if slide_id in names else names[0] if len(names) == 1 else "")
    if name not in names:
        problem = f"uns['spatial'] has the libraries {listed(names) or 'none'}, not {name or slide_id!r}"
        raise InputError(path, problem, "Name one with `library` under `spatial`")
    group = get_local(path, libraries, name)
    if "scalefactors" not in group:
        return None
    factors = get_local(path, group, "scalefactors")
    return {key: float(read_array(path, get_local(path, factors, key))) for key in factors}
