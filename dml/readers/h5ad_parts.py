"""Parts of AnnData files (.h5ad) read with h5py, by the on-disk format of anndata 0.7 and later.

Format: Virshup et al. 2024, anndata, doi 10.21105/joss.04371.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from dml.core.errors import InputError, listed
from dml.core.hdf5 import get_local, read_dataset
from dml.core.limits import current


class UnknownEncodingError(Exception):
    """Part of the file is of a kind that this reader does not know."""


def read_matrix(path: Path, file: Any, layer: str, to_dense: bool = False) -> Any:
    """Return X or a layer as csr_matrix or csc_matrix, or as an array where it is dense in the file.

    Parameters
    ----------
    path, file
        The file and its open handle.
    layer : str
        X, or the name of a layer.
    to_dense : bool
        Whether it is made an array, so that the limit on a matrix holds for its whole shape.

    Raises
    ------
    InputError
        If there is no such layer, or it is damaged or too large.
    UnknownEncodingError
        If it is of another kind.
    """
    layers = ["X", *file.get("layers", ())]
    if layer not in layers:
        raise InputError(path, f"no layer {layer!r}; there are {listed(layers)}", "Correct `layer` of the description")
    item = get_local(path, file, "X") if layer == "X" else get_local(path, get_local(path, file, "layers"), layer)
    kind = encoding(item)
    if not hasattr(item, "keys"):
        return read_array(path, item)
    if kind not in ("csr_matrix", "csc_matrix"):
        raise UnknownEncodingError(f"{layer} is of kind {kind!r}")
    shape = tuple(int(n) for n in item.attrs["shape"])
    if to_dense and shape[0] * shape[1] * 8 > (most := current().table_bytes):
        remedy = f"A matrix has at most {most} bytes (limits.table_bytes)"
        raise InputError(path, f"{layer} is {shape[0]} x {shape[1]}", remedy)
    make = sparse.csr_matrix if kind == "csr_matrix" else sparse.csc_matrix
    parts = (read_array(path, get_local(path, item, name)) for name in ("data", "indices", "indptr"))
    matrix = make(tuple(parts), shape=shape)
    matrix.check_format(full_check=True)
    return matrix.toarray() if to_dense else matrix


def read_names(path: Path, file: Any, side: str, column: str | None) -> list[str | None]:
    """Return a column of obs or var as text (None where empty); without a name its index.

    Raises
    ------
    InputError
        If there is no such column.
    UnknownEncodingError
        If it is of another kind.
    """
    frame = get_local(path, file, side)
    if not hasattr(frame, "keys"):
        raise UnknownEncodingError(f"{side} is a table of anndata before 0.7")
    name = str(frame.attrs.get("_index", "_index")) if column is None else column
    if name not in frame:
        raise InputError(path, f"no column {name!r} in {side}; it has {listed(sorted(frame), 12)}", "Correct the name")
    item = get_local(path, frame, name)
    if not hasattr(item, "keys"):
        return [to_text(cell) for cell in read_array(path, item)]
    if "categories" in item:
        categories = [to_text(cell) for cell in read_array(path, get_local(path, item, "categories"))]
        codes = read_array(path, get_local(path, item, "codes"))
        return [None if code < 0 else categories[code] for code in codes]
    if "values" in item and "mask" in item:  # nullable strings, integers, truth values
        cells, mask = (read_array(path, get_local(path, item, part)) for part in ("values", "mask"))
        return [None if hidden else to_text(cell) for cell, hidden in zip(cells, mask, strict=True)]
    raise UnknownEncodingError(f"{side}.{name} is of kind {encoding(item)!r}")


def read_array(path: Path, dataset: Any) -> np.ndarray:
    """Return a dataset within the limits."""
    return read_dataset(path, dataset, current().table_bytes)


def encoding(item: Any) -> str:
    """Return what kind of thing anndata wrote."""
    return str(item.attrs.get("encoding-type", "array"))


def to_text(cell: Any) -> str | None:
    """Return a cell as text, None where it is empty."""
    text = cell.decode() if isinstance(cell, bytes) else str(cell)
    return text or None
