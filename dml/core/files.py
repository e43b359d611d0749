"""Atomic, self-describing files and the lock of a stage: nothing half-written is ever seen under its final name."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from dml.core.errors import Busy, InputError

if TYPE_CHECKING:
    import pandas as pd

WORK = Path(".work")
"""Resumable intermediate results, keyed by what they are made of; safe to delete at any time."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How text begins that spreadsheets run as a formula."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that is renamed to it on success and removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def inside(folder: Path, *parts: str) -> Path:
    """Return the path of something in a folder, proven to stay in it whatever the names are.

    Raises
    ------
    InputError
        If a part is absolute, climbs out (..), is empty or holds a separator or a NUL.

    Examples
    --------
    >>> inside(Path("data"), "tiles", "S1.parquet").as_posix()
    'data/tiles/S1.parquet'
    """
    for part in parts:
        if part in ("", ".", "..") or any(c in part for c in "/\\\0") or Path(part).is_absolute():
            raise InputError(folder, f"{part!r} cannot name a file in it", "Correct the id")
    return folder.joinpath(*parts)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys and a fixed layout, so that equal content is equal bytes."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    InputError
        If the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(path, "the file does not exist", "Run the stage that writes it: dvc repro") from None
    except (ValueError, RecursionError) as error:  # no JSON, or no UTF-8
        raise InputError(path, f"not JSON ({error})", "Delete it and run dvc repro") from None


def write_csv(path: Path, table: "pd.DataFrame", float_format: str) -> None:
    """Write a table for people; text that a spreadsheet would run as a formula is preceded by an apostrophe."""
    with atomic(path) as temporary:
        table.map(escape_formula).to_csv(temporary, index=False, float_format=float_format, lineterminator="\n")


def escape_formula(cell: Any) -> Any:
    """Return a cell so that no spreadsheet takes it for a formula.

    Examples
    --------
    >>> escape_formula("=HYPERLINK(1)"), escape_formula("P-1"), escape_formula(-1.5)
    ("'=HYPERLINK(1)", 'P-1', -1.5)
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def write_parquet(path: Path, table: pa.Table, metadata: Mapping[str, Any] | None = None, **options: Any) -> None:
    """Write a table with JSON-encoded metadata under the key ``dml`` of the schema."""
    described = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), b"dml": json.dumps(dict(metadata or {}), sort_keys=True).encode()}
    )
    with atomic(path) as temporary:
        pq.write_table(described, temporary, **options)


def read_parquet(path: Path, columns: list[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """Read a table and its metadata.

    Raises
    ------
    InputError
        If the file is missing or is not Parquet, or its metadata are not those of `write_parquet`.
    """
    if not path.exists():
        raise InputError(path, "the file does not exist", "Run the stage that writes it: dvc repro")
    try:
        table = pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(path, f"not a readable Parquet file ({error})", "Delete it and run dvc repro") from None
    return table, metadata_of(path, table)


def metadata_of(path: Path, table: pa.Table) -> dict[str, Any]:
    """Return the metadata that `write_parquet` wrote with a table; `path` is where it is from.

    Raises
    ------
    InputError
        If they are not a mapping as JSON.
    """
    try:
        metadata = json.loads((table.schema.metadata or {}).get(b"dml", b"{}"))
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"its metadata are not JSON ({error})", "Delete it and run dvc repro") from None
    if not isinstance(metadata, dict):
        raise InputError(path, "its metadata are no mapping", "Delete it and run dvc repro")
    return metadata


def digest(*parts: Any) -> str:
    """Return a short stable hash of JSON-able parts."""
    encoded = json.dumps(parts, sort_keys=True, default=str).encode()
    return hashlib.blake2b(encoded, digest_size=10).hexdigest()


@contextmanager
def only_writer(name: str, wait_s: float = 600.0, folder: Path = WORK / "locks") -> Iterator[None]:
    """Hold the lock of a stage; wait for a writer left over from a killed run to finish.

    Raises
    ------
    Busy
        If another process still holds it after `wait_s` seconds; the message names that process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.lock"
    holder = path.with_suffix(".pid")
    try:
        with FileLock(path, timeout=wait_s):
            holder.write_text(str(os.getpid()))
            yield
            holder.unlink(missing_ok=True)
    except Timeout:
        pid = holder.read_text() if holder.exists() else "unknown"
        raise Busy(f"stage {name}: process {pid} is still writing; wait for it or end it, then run again") from None
