"""AnnData files (.h5ad), read with h5py: X or a layer, dense or sparse, by the on-disk format of anndata 0.7 and later.

Format: Virshup et al. 2024, anndata, doi 10.21105/joss.04371. What this reader does not know (older files, arrays of
other kinds) is read by anndata itself where it is installed.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from dml.core.errors import InputError, refuse_unreadable
from dml.core.limited_process import call_limited
from dml.readers.archives import existing
from dml.readers.columns import Column, Key
from dml.readers.expression.expression_format import PortalFormat, RawMatrix
from dml.readers.h5ad_parts import UnknownEncodingError, read_matrix, read_names
from dml.readers.samples import Sample
from dml.readers.table_files import keys

Parts = tuple[NDArray[np.float64], list[str | None], list[str | None]]
"""Values, names of samples, names of genes."""


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
            except UnknownEncodingError as unknown:
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
        values = np.asarray(read_matrix(path, file, layer, to_dense=True), np.float64)
        return values, read_names(path, file, "obs", sample), read_names(path, file, "var", gene)


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
