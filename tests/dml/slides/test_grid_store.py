"""Tiles on disk."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dml.core.errors import InputError
from dml.core.files import write_parquet
from dml.core.types import Mpp, TileGrid
from dml.slides.grid_store import read_grid, write_grid


def grid(n: int) -> TileGrid:
    px = np.arange(2 * n).reshape(n, 2)
    return TileGrid(px, px * 0.25 + 64, np.linspace(0.5, 1, n), 256, Mpp(0.5), Mpp(0.25))


@pytest.mark.parametrize("n", [5, 0])
def test_round_trip(tmp_path: Path, n: int) -> None:
    write_grid(tmp_path / "a.parquet", grid(n), slide_id="a", fingerprint="f")
    result, facts = read_grid(tmp_path / "a.parquet")
    np.testing.assert_array_equal(result.coords_px, grid(n).coords_px)
    np.testing.assert_array_equal(result.coords_um, grid(n).coords_um)
    np.testing.assert_allclose(result.tissue, grid(n).tissue, atol=1e-6)
    assert (result.tile_px, result.mpp, result.slide_mpp) == (256, 0.5, 0.25)
    assert (facts["slide_id"], facts["fingerprint"]) == ("a", "f")


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: the file does not exist"):
        read_grid(tmp_path / "a.parquet")
    write_parquet(tmp_path / "a.parquet", pa.table({"x": [1]}))
    with pytest.raises(InputError, match=r"a\.parquet: not a tile grid: .*missing"):
        read_grid(tmp_path / "a.parquet")
