"""AnnData files (.h5ad), read with h5py: X or a layer, dense or sparse, by the on-disk format of anndata 0.7 and later.

Format: Virshup et al. 2024, anndata, doi 10.21105/joss.04371.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from dml.cohorts.columns import Column, Key
from dml.cohorts.readers.expression_format import PortalFormat, RawMatrix
from dml.cohorts.readers.files import existing
from dml.cohorts.readers.tables import keys
from dml.cohorts.samples import Sample
from dml.core.errors import InputError, listed


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
        import h5py

        path = existing(raw / self.file)
        try:
            with h5py.File(path, "r") as file:
                values = _matrix(file, self.layer, path)
                genes = _names(file, "var", self.gene, path)
                key = self.id or Column(column="the index of obs")
                samples = _names(file, "obs", None if self.id is None else key.column, path)
        except (OSError, KeyError) as error:
            raise InputError(path, f"not an AnnData file ({error})", "Write it with anndata 0.7 or later") from None
        if values.shape != (len(samples), len(genes)):
            problem = f"{self.layer} is {values.shape}, obs and var {len(samples), len(genes)}"
            raise InputError(path, problem, "Write it again")
        table = pd.DataFrame({key.column: samples}, index=range(1, len(samples) + 1))
        patients = list(keys(table, path, key))
        rows = [Sample(patient, str(name), file=self.file) for patient, name in zip(patients, samples, strict=True)]
        return RawMatrix(pd.DataFrame(values, index=patients, columns=genes), path, rows)


def _matrix(file: Any, layer: str, path: Path) -> NDArray[np.float64]:
    from scipy import sparse

    there = ["X", *file.get("layers", ())]
    if layer not in there:
        raise InputError(path, f"no layer {layer!r}; there are {listed(there)}", "Correct expression.layer")
    found = file["X"] if layer == "X" else file["layers"][layer]
    kind = found.attrs.get("encoding-type", "array")
    if kind not in ("csr_matrix", "csc_matrix"):
        return np.asarray(found[()], np.float64)
    make = sparse.csr_matrix if kind == "csr_matrix" else sparse.csc_matrix
    parts = tuple(found[name][()] for name in ("data", "indices", "indptr"))
    return np.asarray(make(parts, shape=tuple(found.attrs["shape"])).toarray(), np.float64)


def _names(file: Any, side: str, column: str | None, path: Path) -> list[str | None]:
    """Return a column of obs or var as text (None where empty); without a name its index."""
    frame = file[side]
    if not hasattr(frame, "keys"):
        raise InputError(path, f"{side} is a table of anndata before 0.7", "Write it again with a newer anndata")
    name = str(frame.attrs.get("_index", "_index")) if column is None else column
    if name not in frame:
        raise InputError(path, f"no column {name!r} in {side}; it has {listed(sorted(frame), 12)}", "Correct the name")
    found = frame[name]
    if not hasattr(found, "keys"):
        return [_text(cell) for cell in found[()]]
    categories = [_text(cell) for cell in found["categories"][()]]
    return [None if code < 0 else categories[code] for code in found["codes"][()]]


def _text(cell: Any) -> str | None:
    text = cell.decode() if isinstance(cell, bytes) else str(cell)
    return text or None
