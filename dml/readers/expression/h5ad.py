"""AnnData files (.h5ad), read with h5py: X or a layer, dense or sparse, by the on-disk format of anndata 0.7 and later.

Format: Virshup et al. 2024, anndata, doi 10.21105/joss.04371. What this reader does not know (older files, arrays of
other kinds) is read by anndata itself where it is installed.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from dml.core.errors import InputError, listed, refuse_unreadable
from dml.core.hdf5 import get_local, read_dataset
from dml.core.limited_process import call_limited
from dml.core.limits import current
from dml.readers.archives import existing
from dml.readers.columns import Column, Key
from dml.readers.expression.expression_format import PortalFormat, RawMatrix
from dml.readers.samples import Sample
from dml.readers.table_files import keys

Parts = tuple[NDArray[np.float64], list[str | None], list[str | None]]
"""Values, names of samples, names of genes."""


class _UnknownEncodingError(Exception):
    """Part of the file is of a kind that this reader does not know."""


class AnnDataFile(PortalFormat):
    """An AnnData file (.h5ad): samples by genes, dense or sparse."""

    format: Literal["h5ad"]
    file: str
    layer: str = Field(default="X", description="X, or the name of a layer")
    id: Key | None = Field(default=None, description="column of obs with the patient; default: the index of obs")
    gene: str | None = Field(default=None, description="column of var with the gene; default: the index of var")

    def read(self, raw: Path) -> RawMatrix:
        """Read the matrix as samples by genes.

        Raises
        ------
        InputError
            If the file is missing, not AnnData, or has no such layer or column.
        """
        path = existing(raw / self.file)
        column = None if self.id is None else self.id.column
        with refuse_unreadable(path, "Write it with anndata 0.7 or later"):
            try:
                values, names, genes = call_limited(path, _read, path, self.layer, column, self.gene)
            except _UnknownEncodingError as unknown:
                arguments = (path, self.layer, column, self.gene, str(unknown))
                values, names, genes = call_limited(path, _read_with_anndata, *arguments)
        if values.shape != (len(names), len(genes)):
            problem = f"{self.layer} is {values.shape}, obs and var {len(names), len(genes)}"
            raise InputError(path, problem, "Write it again")
        key = self.id or Column(column="the index of obs")
        table = pd.DataFrame({key.column: names}, index=range(1, len(names) + 1))
        patients = list(keys(table, path, key))
        samples = [Sample(patient, str(name), file=self.file) for patient, name in zip(patients, names, strict=True)]
        return RawMatrix(pd.DataFrame(values, index=patients, columns=[str(g) for g in genes]), path, samples)


def _read(path: Path, layer: str, sample: str | None, gene: str | None) -> Parts:
    import h5py

    with h5py.File(path, "r") as file:
        return _values(file, layer, path), _names(file, "obs", sample, path), _names(file, "var", gene, path)


def _values(file: Any, layer: str, path: Path) -> NDArray[np.float64]:
    from scipy import sparse

    layers = ["X", *file.get("layers", ())]
    if layer not in layers:
        raise InputError(path, f"no layer {layer!r}; there are {listed(layers)}", "Correct expression.layer")
    item = get_local(path, file, "X") if layer == "X" else get_local(path, get_local(path, file, "layers"), layer)
    kind = _kind(item)
    if not hasattr(item, "keys"):
        return np.asarray(_array(path, item), np.float64)
    if kind not in ("csr_matrix", "csc_matrix"):
        raise _UnknownEncodingError(f"{layer} is of kind {kind!r}")
    shape = tuple(int(n) for n in item.attrs["shape"])
    if shape[0] * shape[1] * 8 > (most := current().table_bytes):
        remedy = f"A matrix has at most {most} bytes (limits.table_bytes)"
        raise InputError(path, f"{layer} is {shape[0]} x {shape[1]}", remedy)
    make = sparse.csr_matrix if kind == "csr_matrix" else sparse.csc_matrix
    parts = (_array(path, get_local(path, item, name)) for name in ("data", "indices", "indptr"))
    matrix = make(tuple(parts), shape=shape)
    matrix.check_format(full_check=True)
    return np.asarray(matrix.toarray(), np.float64)


def _names(file: Any, side: str, column: str | None, path: Path) -> list[str | None]:
    """Return a column of obs or var as text (None where empty); without a name its index."""
    frame = get_local(path, file, side)
    if not hasattr(frame, "keys"):
        raise _UnknownEncodingError(f"{side} is a table of anndata before 0.7")
    name = str(frame.attrs.get("_index", "_index")) if column is None else column
    if name not in frame:
        raise InputError(path, f"no column {name!r} in {side}; it has {listed(sorted(frame), 12)}", "Correct the name")
    item = get_local(path, frame, name)
    if not hasattr(item, "keys"):
        return [_to_text(cell) for cell in _array(path, item)]
    if "categories" in item:
        categories = [_to_text(cell) for cell in _array(path, get_local(path, item, "categories"))]
        codes = _array(path, get_local(path, item, "codes"))
        return [None if code < 0 else categories[code] for code in codes]
    if "values" in item and "mask" in item:  # nullable strings, integers, truth values
        cells, mask = (_array(path, get_local(path, item, part)) for part in ("values", "mask"))
        return [None if hidden else _to_text(cell) for cell, hidden in zip(cells, mask, strict=True)]
    raise _UnknownEncodingError(f"{side}.{name} is of kind {_kind(item)!r}")


def _read_with_anndata(path: Path, layer: str, sample: str | None, gene: str | None, why: str) -> Parts:
    if find_spec("anndata") is None:
        raise InputError(path, why, "Install anndata, which can read it: pip install -e '.[h5ad]'")
    import anndata

    data = anndata.read_h5ad(path)
    values = data.X if layer == "X" else data.layers[layer]
    dense = values.toarray() if hasattr(values, "toarray") else values
    names = data.obs_names if sample is None else data.obs[sample]
    genes = data.var_names if gene is None else data.var[gene]
    texts = [[None if pd.isna(cell) else str(cell) for cell in cells] for cells in (names, genes)]
    return np.asarray(dense, np.float64), texts[0], texts[1]


def _array(path: Path, dataset: Any) -> np.ndarray:
    return read_dataset(path, dataset, current().table_bytes)


def _kind(item: Any) -> str:
    return str(item.attrs.get("encoding-type", "array"))


def _to_text(cell: Any) -> str | None:
    text = cell.decode() if isinstance(cell, bytes) else str(cell)
    return text or None
