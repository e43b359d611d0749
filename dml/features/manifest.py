"""The manifest of the feature store: status, reason and tiles of every slide and resolution (manifest.parquet)."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dml.core.files import read_parquet, write_parquet

SCHEMA = pa.schema(
    [
        ("slide_id", pa.string()),
        ("patient_id", pa.string()),
        ("mpp", pa.float64()),
        ("tiles", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("fingerprint", pa.string()),
    ]
)


def manifest_row(
    slide_id: str, patient_id: str | None, mpp: float, tiles: int = 0, reason: str | None = None, fingerprint: str = ""
) -> dict[str, Any]:
    """Describe a slide at a resolution; it is ``failed`` if there is a reason, else ``ok``."""
    return {
        "slide_id": slide_id,
        "patient_id": patient_id,
        "mpp": float(mpp),
        "tiles": 0 if reason else tiles,
        "status": "failed" if reason else "ok",
        "reason": reason,
        "fingerprint": fingerprint,
    }


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Write the rows, sorted by slide and resolution, and return them as a table."""
    table = pd.DataFrame(rows, columns=SCHEMA.names).sort_values(["slide_id", "mpp"], ignore_index=True)
    write_parquet(path, pa.Table.from_pandas(table, schema=SCHEMA, preserve_index=False))
    return table


def read_manifest(path: Path) -> pd.DataFrame:
    """Read the table: one row a slide and resolution, status ``ok`` or ``failed`` with its reason.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    table: pd.DataFrame = read_parquet(path)[0].to_pandas()
    return table
