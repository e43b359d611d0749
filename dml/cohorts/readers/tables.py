"""Clinical and slide tables: csv, tsv or any delimited text, plain, .gz or .zip, and Parquet.

The MCAT/PORPOISE format needs no reader of its own: one row a slide, repeated patient fields and `*_rnaseq` columns are
all said by a description (see cohorts/tcga_gbmlgg.yaml).
"""

import csv
import difflib
import gzip
import io
import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dml.cohorts.columns import Column
from dml.core.errors import InputError, listed

MISSING = (
    *("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "--", "'--", "not reported", "Not Reported"),
    *("[Not Available]", "[Not Applicable]", "[Unknown]", "[Not Evaluated]"),
)
"""Cells that mean: no value (GDC and cBioPortal write them in words)."""


def read_table(path: Path, numeric: bool = False, text: Sequence[str | int] = ()) -> pd.DataFrame:
    """Read a table; the index holds row numbers as a text editor shows them (Parquet: from 1).

    Parameters
    ----------
    path : Path
        .parquet, or delimited text (comma, tab, semicolon or bar), optionally .gz or .zip of one file.
    numeric : bool
        Parse numbers (for matrices); otherwise every cell is kept as text.
    text : sequence of str or int
        Columns that stay text even so, by name or position.

    Raises
    ------
    InputError
        If the file is missing, empty, not text in UTF-8, ragged, or repeats a header.
    """
    existing(path)
    if path.suffix == ".parquet":
        return _read_parquet(path, numeric)
    return _parse(path, _decoded(path), numeric, text)


def existing(path: Path) -> Path:
    """Return the path of a file that is there.

    Raises
    ------
    InputError
        If it is not.
    """
    if not path.is_file():
        raise InputError(path, "the file does not exist", "Put it there (dml cohort import) or correct the description")
    return path


def _read_parquet(path: Path, numeric: bool) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pq.read_table(path, partitioning=None).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(path, f"not a readable Parquet file ({error})", "Write it again") from None
    if not numeric:
        frame = frame.astype(object).map(_cell)
    return frame.set_axis(range(1, len(frame) + 1))


def _cell(value: object) -> str | None:
    return None if pd.isna(value) or str(value) in MISSING else str(value)  # type: ignore[call-overload]


def _decoded(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, f"not UTF-8 text (byte {error.start})", "Save it as CSV UTF-8") from None
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(path, f"cannot be unpacked ({error})", "Fetch it again") from None


def _bytes(path: Path) -> bytes:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix != ".zip":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX")]
        if len(names) != 1:
            raise InputError(path, f"holds {len(names)} files ({listed(names)})", "A zipped table holds exactly one")
        return archive.read(names[0])


def _parse(path: Path, content: str, numeric: bool, text: Sequence[str | int]) -> pd.DataFrame:
    skipped = len(content) - len(re.sub(r"\A(?:#[^\n]*\n)+", "", content))
    body, first = content[skipped:], content[:skipped].count("\n") + 2
    header = next(csv.reader([body.split("\n", 1)[0]], delimiter=delimiter(body)), [])
    if not any(header):
        raise InputError(path, "the file is empty", "It needs a header row and data")
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise InputError(path, f"the header repeats {listed(repeated)}", "Rename or delete the repeated columns")
    frame = _read_csv(path, body, dict.fromkeys(text, str) if numeric else str)
    blank = frame.isna().all(axis=1)
    return frame.set_axis(range(first, first + len(frame)))[~blank.to_numpy()]


def _read_csv(path: Path, body: str, dtype: Any) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a header shorter than its rows drops a column
            frame: pd.DataFrame = pd.read_csv(
                io.StringIO(body), sep=delimiter(body), dtype=dtype, na_values=list(MISSING), keep_default_na=False,
                low_memory=False, index_col=False, skip_blank_lines=False,
            )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        remedy = "Quote cells that hold the delimiter; give every column a header"
        raise InputError(path, f"rows and header differ in length ({str(error).strip()})", remedy) from None
    return frame


def delimiter(content: str) -> str:
    """Return the delimiter of the header line: the most frequent of tab, comma, semicolon and bar outside quotes."""
    header = re.sub(r'"[^"]*"', "", content.split("\n", 1)[0])
    return max("\t,;|", key=header.count) if any(c in header for c in "\t,;|") else ","


def column(frame: pd.DataFrame, path: Path, name: str) -> pd.Series:
    """Return a column.

    Raises
    ------
    InputError
        If there is none of that name; the message suggests the nearest ones.
    """
    name = name or "Unnamed: 0"  # a column without header, as R writes row names
    if name in frame.columns:
        return frame[name]
    names = [str(c) for c in frame.columns]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"It has {listed(names, 12)}."
    raise InputError(path, f"no column {name!r}", f"{hint} Correct the cohort description")


def keys(frame: pd.DataFrame, path: Path, key: Column) -> pd.Series:
    """Return ids (or another part of a column), trimmed.

    Raises
    ------
    InputError
        If a cell is empty or does not match the pattern; the message names the rows.
    """
    cells = column(frame, path, key.column)
    if cells.isna().any():
        raise InputError(path, f"column {key.column!r} is empty in {rows(cells.isna())}", "Fill in or delete the rows")
    cells = cells.astype(str).str.strip()
    if key.pattern is None:
        return cells
    found = cells.str.extract(key.pattern, expand=False)
    if found.isna().any():
        wrong = f"{listed(list(cells[found.isna()]))} in {rows(found.isna())} of column {key.column!r}"
        raise InputError(path, f"{wrong} does not match {key.pattern!r}", "Correct the pattern or the rows")
    return found


def numbers(cells: pd.Series, path: Path) -> pd.Series:
    """Return a text column as float64, NaN where empty.

    Raises
    ------
    InputError
        If a cell is not a finite number; the message names column, rows and values.
    """
    parsed = pd.to_numeric(cells, errors="coerce").astype(np.float64)
    wrong = cells.notna() & ~np.isfinite(parsed)
    if wrong.any():
        found = f"column {cells.name!r} holds {listed(list(cells[wrong]))} in {rows(wrong)}"
        raise InputError(path, f"{found}, which is not a number", "Correct the cells or leave them empty")
    return parsed


def rows(mask: pd.Series) -> str:
    """Name the rows where a mask is true: ``rows 3, 8``."""
    numbers_ = [int(i) for i in mask.index[mask.to_numpy()]]
    return f"row{'s' if len(numbers_) > 1 else ''} {listed(numbers_)}"


def members(path: Path) -> list[str]:
    """List the files of a folder (recursively) or of a zip, sorted, hidden ones left out.

    Raises
    ------
    InputError
        If it is missing, or neither a folder nor a zip file.
    """
    if path.is_dir():
        names = [str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()]
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    else:
        problem = "is neither a folder nor a zip file" if path.exists() else "does not exist"
        raise InputError(path, problem, "Put it there (dml cohort import) or correct the description")
    return sorted(name for name in names if not any(part.startswith((".", "__MACOSX")) for part in Path(name).parts))
