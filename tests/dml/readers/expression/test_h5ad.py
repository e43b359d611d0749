"""h5ad files as anndata writes them, and such as nobody should: data elsewhere, claims that the file cannot keep."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from dml.core.errors import InputError
from dml.readers.expression.h5ad import AnnDataFile

VALUES = np.arange(12.0).reshape(4, 3)
TEXT = h5py.string_dtype()


def write(path: Path, change: Callable[[h5py.File], None] = lambda file: None) -> None:
    with h5py.File(path, "w") as file:
        file["X"] = VALUES
        for side, count in (("obs", 4), ("var", 3)):
            group = file.create_group(side)
            group.attrs["_index"] = "_index"
            group.create_dataset("_index", data=[f"{side}{i}" for i in range(count)], dtype=TEXT)
        change(file)


def read(path: Path, **keys: object) -> list[str]:
    matrix = AnnDataFile(format="h5ad", file=path.name, unit="tpm", **keys).read(path.parent)
    np.testing.assert_array_equal(matrix.frame.to_numpy(), VALUES)
    return list(matrix.frame.index)


def nullable(file: h5py.File) -> None:
    """As anndata 0.12 writes pandas' nullable strings and integers."""
    del file["obs/_index"]
    for name, values in (("_index", [f"P{i}" for i in range(4)]), ("number", [4, 3, 2, 1])):
        group = file["obs"].create_group(name)
        group.attrs["encoding-type"] = "nullable-string-array" if name == "_index" else "nullable-integer"
        group.create_dataset("values", data=values, dtype=TEXT if name == "_index" else None)
        group["mask"] = np.zeros(4, bool)


def test_nullable_columns_are_read(tmp_path: Path) -> None:
    write(tmp_path / "e.h5ad", nullable)
    assert read(tmp_path / "e.h5ad") == ["P0", "P1", "P2", "P3"]
    assert read(tmp_path / "e.h5ad", id="number") == ["4", "3", "2", "1"]


def external(file: h5py.File) -> None:
    del file["X"]
    file.create_dataset("X", (4, 3), "u1", external=[("/etc/passwd", 0, 12)])


def virtual(file: h5py.File) -> None:
    del file["X"]
    layout = h5py.VirtualLayout((4, 3), "f8")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "X", (4, 3))
    file.create_virtual_dataset("X", layout)


def link(file: h5py.File) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink("/tmp/other.h5", "X")


def claim(file: h5py.File) -> None:
    del file["X"]
    file.create_dataset("X", (10**9, 3), "f8", chunks=(1024, 3))


def sparse_claim(file: h5py.File) -> None:
    del file["X"]
    group = file.create_group("X")
    group.attrs.update({"encoding-type": "csr_matrix", "shape": (10**6, 10**6)})
    group["data"], group["indices"], group["indptr"] = np.ones(1), np.zeros(1, int), np.array([0, 1])


def sparse_outside(file: h5py.File) -> None:
    del file["X"]
    group = file.create_group("X")
    group.attrs.update({"encoding-type": "csr_matrix", "shape": (4, 3)})
    group["data"], group["indices"], group["indptr"] = np.ones(1), np.array([10**6]), np.array([0, 1, 1, 1, 1])


def short(file: h5py.File) -> None:
    del file["obs/_index"]
    file["obs"].create_dataset("_index", data=["P0"], dtype=TEXT)


def unknown(file: h5py.File) -> None:
    del file["X"]
    file.create_group("X").attrs["encoding-type"] = "awkward-array"


HOSTILE = {
    "external": (external, "in other files"),
    "virtual": (virtual, "in other datasets"),
    "link": (link, "link to other data"),
    "claim": (claim, "claims 24000000000 bytes"),
    "sparse claim": (sparse_claim, "1000000 x 1000000"),
    "sparse outside": (sparse_outside, "cannot be read"),
    "short": (short, r"X is \(4, 3\), obs and var \(1, 3\)"),
    "unknown": (unknown, r"'awkward-array'.*|cannot be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    change, message = HOSTILE[name]
    write(tmp_path / "e.h5ad", change)
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path / "e.h5ad")
    assert error.value.where == str(tmp_path / "e.h5ad")


def test_what_anndata_writes_is_read(tmp_path: Path) -> None:
    """The extra `h5ad`, where it is installed."""
    anndata = pytest.importorskip("anndata")
    data = anndata.AnnData(X=VALUES)
    data.obs_names, data.var_names = [f"P{i}" for i in range(4)], [f"G{i}" for i in range(3)]
    data.write_h5ad(tmp_path / "e.h5ad")
    assert read(tmp_path / "e.h5ad") == ["P0", "P1", "P2", "P3"]
