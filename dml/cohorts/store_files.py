"""Files of a cohort's stores, ``data/<cohort>``, as frozen types and tables: what every later package reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32

from dml.core.errors import InputError, listed, refuse_unreadable
from dml.core.files import read_json, read_parquet, write_parquet
from dml.core.types import GeneGroups

_AGAIN = "Delete it and run: dvc repro"


def read_patients(path: Path) -> pd.DataFrame:
    """Read the table, `event` as True, False or None; ``attrs`` holds ``classes`` (per label, in order), ``cohort``."""
    table, metadata = _read_columns(path, "patient_id", "site", "survival_days", "event")
    patients: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    patients["event"] = patients["event"].astype(object)
    patients.attrs.update(metadata)
    return patients


def read_slides(path: Path) -> pd.DataFrame:
    """Read the table: slide_id, patient_id, path (None = features only), mpp (NaN = not stated)."""
    slides: pd.DataFrame = _read_columns(path, "slide_id", "patient_id", "path", "mpp")[0].to_pandas()
    return slides


def section_ids(slides: pd.DataFrame) -> pd.Series:
    """Return the section of each slide: its column `section_id` where slides are regions, else the slide itself."""
    sections: pd.Series = slides["section_id" if "section_id" in slides else "slide_id"]
    return sections


def _read_columns(path: Path, *columns: str) -> tuple[pa.Table, dict[str, Any]]:
    table, metadata = read_parquet(path)
    if absent := [name for name in columns if name not in table.column_names]:
        raise InputError(path, f"no column {listed(absent)}", _AGAIN)
    return table, metadata


@dataclass(frozen=True, slots=True)
class ExpressionMatrix:
    """Expression of a cohort, p patients by g genes, both in alphabetical order; `unit` as in `expression_units`."""

    patient_ids: tuple[str, ...]
    genes: tuple[str, ...]
    values: Float32[np.ndarray, "p g"]
    unit: str
    source: str

    def subset(self, patient_ids: set[str]) -> "ExpressionMatrix":
        """Return the matrix of some patients."""
        rows = [i for i, patient in enumerate(self.patient_ids) if patient in patient_ids]
        names = tuple(self.patient_ids[i] for i in rows)
        return ExpressionMatrix(names, self.genes, self.values[rows], self.unit, self.source)


def write_expression(path: Path, matrix: ExpressionMatrix) -> None:
    """Write one row a patient; gene symbols in order, unit and source go to the metadata."""
    flat = pa.array(np.ascontiguousarray(matrix.values, np.float32).reshape(-1), pa.float32())
    kind = pa.list_(pa.float32(), len(matrix.genes))
    vectors = (
        pa.FixedSizeListArray.from_arrays(flat, type=kind)
        if matrix.genes and matrix.patient_ids
        else pa.array([], kind)
    )
    table = pa.table({"patient_id": pa.array(matrix.patient_ids, pa.string()), "expression": vectors})
    metadata = {"genes": list(matrix.genes), "unit": matrix.unit, "source": matrix.source}
    write_parquet(path, table, metadata, compression="zstd")


def read_expression(path: Path) -> ExpressionMatrix:
    """Read what `write_expression` wrote."""
    table, metadata = _read_columns(path, "patient_id", "expression")
    with refuse_unreadable(path, _AGAIN):
        genes = tuple(metadata["genes"])
        flat = table["expression"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        values = np.asarray(flat, np.float32).reshape(len(table), len(genes))
        patients = tuple(table["patient_id"].to_pylist())
        return ExpressionMatrix(patients, genes, values, metadata["unit"], metadata["source"])


@dataclass(frozen=True, slots=True)
class DeclaredGroups:
    """Gene groups with the numbers of genes that were declared before any restriction to measured ones."""

    groups: GeneGroups
    declared: Mapping[str, int] = field(default_factory=dict)
    restricted: bool = False
    min_genes: int = 1


def read_gene_groups(path: Path) -> DeclaredGroups:
    """Read the groups."""
    content = read_json(path)
    with refuse_unreadable(path, _AGAIN):
        groups = GeneGroups(tuple(content["tumor"]), tuple(content["tme"]), content.get("provenance", ""))
        numbers = content.get("restricted", False), int(content.get("min_genes", 1))
        return DeclaredGroups(groups, content.get("declared", {}), *numbers)


def read_splits(path: Path) -> pd.DataFrame:
    """Read the splits; ``attrs["report"]`` holds `split_report`."""
    table, metadata = _read_columns(path, "patient_id", "fold", "role", "inner_fold", "stratum")
    splits: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    splits.attrs.update(metadata)
    return splits
