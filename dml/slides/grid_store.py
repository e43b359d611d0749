"""The tiles of a slide as Parquet: one file a slide and resolution."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dml.core.errors import InputError, refuse_unreadable
from dml.core.files import read_parquet, write_parquet
from dml.core.types import Mpp, TileGrid

_AGAIN = "Delete it and run: dvc repro tile"


def write_grid(path: Path, grid: TileGrid, **facts: Any) -> None:
    """Write a grid; `facts` (slide id, fingerprint) go into the metadata."""
    table = pa.table(
        {
            "x": grid.coords_px[:, 0],
            "y": grid.coords_px[:, 1],
            "x_um": grid.coords_um[:, 0],
            "y_um": grid.coords_um[:, 1],
            "tissue": grid.tissue.astype(np.float32),
        }
    )
    write_parquet(path, table, {**facts, "tile_px": grid.tile_px, "mpp": grid.mpp, "slide_mpp": grid.slide_mpp})


def read_grid(path: Path) -> tuple[TileGrid, dict[str, Any]]:
    """Read a grid and its metadata.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not a grid.
    """
    table, facts = read_parquet(path)
    try:
        columns = {name: table[name].to_numpy() for name in ("x", "y", "x_um", "y_um", "tissue")}
        scale = int(facts["tile_px"]), Mpp(facts["mpp"]), Mpp(facts["slide_mpp"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"not a tile grid: {error} is missing or no number", _AGAIN) from None
    with refuse_unreadable(path, _AGAIN):
        pixels, microns = (np.stack([columns[a], columns[b]], axis=1) for a, b in (("x", "y"), ("x_um", "y_um")))
        return TileGrid(pixels, microns, columns["tissue"].astype(np.float64), *scale), facts
