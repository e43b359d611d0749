"""Clinical and slide tables: delimited text (also .gz, .xz, .bz2, .zip), Excel workbooks and Parquet.

The MCAT/PORPOISE format needs no reader of its own: one row a slide, repeated patient fields and `*_rnaseq` columns are
expressed in a description (see cohorts/tcga_gbmlgg.yaml).
"""

import csv
import difflib
import io
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from dml.core.errors import InputError, first_line, listed, refuse_unreadable
from dml.core.identifiers import RULE, find_problem
from dml.core.limited_process import call_limited
from dml.core.limits import current
from dml.readers.archives import check_size, decode, existing, unpack
from dml.readers.columns import Column

MISSING = frozenset(
    (
        *("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "--", "'--", "not reported", "Not Reported"),
        *("[Not Available]", "[Not Applicable]", "[Unknown]", "[Not Evaluated]", "<NA>"),
        *("#N/A", "#NA", "#N/A N/A", "#VALUE!", "#REF!", "#DIV/0!", "#NULL!", "#NAME?", "#NUM!"),
    )
)
"""Cells that mean: no value (GDC and cBioPortal write them in words, Excel as errors)."""


def read_table(path: Path, numeric: bool = False, text: Sequence[str | int] = ()) -> pd.DataFrame:
    """Read a table; the index holds row numbers as a text editor or Excel shows them (Parquet: from 1).

    Parameters
    ----------
    path : Path
        .parquet, .xlsx, or delimited text (comma, tab, semicolon or bar; UTF-8 or UTF-16; any line ends), optionally
        packed as .gz, .xz, .bz2 or a .zip of one file.
    numeric : bool
        Parse numbers (for matrices), words of `MISSING` become NaN; otherwise every cell is kept as text, and `column`
        decides what is missing.
    text : sequence of str or int
        Columns that stay text even so, by name or position.

    Raises
    ------
    InputError
        If the file is missing, empty, damaged, no text, ragged (the rows are named), too large, or repeats a header.
    """
    with existing(path).open("rb") as file:
        start = file.read(8)
    if path.suffix == ".parquet" or start.startswith(b"PAR1"):
        return call_limited(path, _read_parquet, path, numeric)
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        return call_limited(path, _read_excel, path, numeric, text)
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise InputError(path, "an old Excel workbook (.xls)", "Save it as .xlsx or as CSV UTF-8")
    return _parse(path, decode(path, unpack(path, start)), numeric, text)


def _read_parquet(path: Path, numeric: bool) -> pd.DataFrame:
    with refuse_unreadable(path, "Is it Parquet? Write it again"):
        declared = pq.read_metadata(path)
        if declared.num_rows * declared.num_columns > (most := current().table_cells):
            raise InputError(
                path, f"declares {declared.num_rows} rows", f"A table has at most {most} cells (limits.table_cells)"
            )
        frame: pd.DataFrame = pq.read_table(path, partitioning=None).to_pandas(ignore_metadata=True)
    frame = frame.rename(columns={"__index_level_0__": "Unnamed: 0"})  # an index of pandas without a name
    _check_header(path, [str(name) for name in frame.columns])
    if not numeric:
        frame = frame.astype(object).map(_to_text)
    return frame.set_axis(range(1, len(frame) + 1))


def _read_excel(path: Path, numeric: bool, text: Sequence[str | int]) -> pd.DataFrame:
    """Read the first sheet; what Excel shows as a date is text like 2021-03-01 00:00:00."""
    with refuse_unreadable(path, "Is it an Excel workbook? Save it as CSV UTF-8"):
        with zipfile.ZipFile(path) as archive:
            check_size(path, sum(info.file_size for info in archive.infolist()), path.stat().st_size)
        cells = pd.read_excel(path, sheet_name=0, header=None, dtype=object, engine="openpyxl", keep_default_na=False)
    body = cells.map(_to_text).set_axis(range(1, len(cells) + 1))
    body = body[body.notna().any(axis=1)]
    if body.empty:
        raise InputError(path, "the first sheet is empty", "It needs a header row and data")
    header = [str(name or "").strip() for name in body.iloc[0].where(body.iloc[0].notna(), "")]
    _check_header(path, header)
    frame = body.iloc[1:].set_axis(_name_blanks(header), axis=1)
    if not numeric:
        return frame
    words = {name for i, name in enumerate(frame.columns) if name in text or i in text}
    frame = frame.mask(frame.isin(list(MISSING)))
    columns = {name: frame[name] if name in words else _to_numeric(frame[name]) for name in frame.columns}
    return pd.DataFrame(columns)


def _to_numeric(cells: pd.Series) -> pd.Series:
    parsed: pd.Series = pd.to_numeric(cells, errors="coerce")
    return parsed if parsed.notna().equals(cells.notna()) else cells


def _to_text(value: object) -> str | None:
    if not pd.api.types.is_scalar(value):
        return str(value)
    return None if pd.isna(value) or str(value).strip() == "" else str(value)  # type: ignore[call-overload]


def _parse(path: Path, content: str, numeric: bool, text: Sequence[str | int]) -> pd.DataFrame:
    skipped = len(content) - len(re.sub(r"\A(?:#[^\n]*\n)+", "", content))
    body, first = content[skipped:], content[:skipped].count("\n") + 2
    separator = delimiter(body)
    try:
        header = [name.strip() for name in next(csv.reader([body.split("\n", 1)[0]], delimiter=separator), [])]
    except csv.Error as error:
        raise InputError(path, f"the header cannot be read ({error})", "Is a quote never closed?") from None
    if not any(header):
        raise InputError(path, "the file is empty", "It needs a header row and data")
    _check_header(path, header)
    names = _name_blanks(header)
    words = {name: pa.string() for i, name in enumerate(names) if not numeric or name in text or i in text}
    table = _parse_text(path, body, separator, names, first, words, numeric)
    if others := {f.name: pa.string() for f in table.schema if not _is_number_or_text(f.type)}:  # true, dates, times
        table = _parse_text(path, body, separator, names, first, words | others, numeric)
    frame: pd.DataFrame = table.to_pandas()
    frame = frame.set_axis(range(first, first + len(frame)))
    return frame[~frame.isna().all(axis=1).to_numpy()]


def _parse_text(
    path: Path, body: str, separator: str, names: list[str], first: int, types: dict[str, pa.DataType], numeric: bool
) -> pa.Table:
    """Parse with Arrow, which takes seconds where a table has 60,000 columns; the whole text decides each type."""
    ragged: list[tuple[int, int]] = []

    def note(row: pa.csv.InvalidRow) -> str:
        ragged.append((first - 2 + row.number, row.actual_columns))
        return "skip"

    encoded = body.encode()
    try:
        table = pa.csv.read_csv(
            io.BytesIO(encoded),
            pa.csv.ReadOptions(use_threads=False, block_size=len(encoded) + 1, column_names=names, skip_rows=1),
            pa.csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=note
            ),
            pa.csv.ConvertOptions(
                column_types=types, null_values=sorted(MISSING) if numeric else [""], strings_can_be_null=True
            ),
        )
    except pa.ArrowException as error:
        raise InputError(path, f"not a table ({first_line(error)})", "Quote cells that hold the delimiter") from None
    if ragged:
        problem = f"rows and header differ in length: row {ragged[0][0]} has {ragged[0][1]} cells, not {len(names)}"
        more = f" (and {len(ragged) - 1} more rows)" if len(ragged) > 1 else ""
        remedy = "Quote cells that hold the delimiter; give every column a header; fetch a file that is cut again"
        raise InputError(path, problem + more, remedy)
    return table


def _is_number_or_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_string(kind) or types.is_null(kind))


def _check_header(path: Path, header: Sequence[str]) -> None:
    if repeated := sorted(name for name, count in Counter(header).items() if name and count > 1):
        raise InputError(path, f"the header repeats {listed(repeated)}", "Rename or delete the repeated columns")


def _name_blanks(header: Sequence[str]) -> list[str]:
    return [name or f"Unnamed: {i}" for i, name in enumerate(header)]


def delimiter(content: str) -> str:
    """Return the delimiter of the header line: the most frequent of tab, comma, semicolon and bar outside quotes."""
    header = re.sub(r'"[^"]*"', "", content.split("\n", 1)[0])
    return max("\t,;|", key=header.count) if any(c in header for c in "\t,;|") else ","


def column(frame: pd.DataFrame, path: Path, name: str, keep: Collection[str] = ()) -> pd.Series:
    """Return a column, null where a cell means that there is no value (`MISSING`, unless `keep` lists the word).

    Raises
    ------
    InputError
        If there is none of that name; the message suggests the nearest ones.
    """
    name = name or "Unnamed: 0"  # a column without header, as R writes row names
    if name in frame.columns:
        cells = frame[name]
        missing = MISSING.difference(keep)
        return cells.mask(cells.map(lambda cell: isinstance(cell, str) and cell.strip() in missing).astype(bool))
    names = [str(c) for c in frame.columns]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"It has {listed(names, 12)}."
    raise InputError(path, f"no column {name!r}", f"{hint} Correct the cohort description")


def keys(frame: pd.DataFrame, path: Path, key: Column) -> pd.Series:
    """Return ids (or another part of a column), trimmed, composed characters in one form.

    Raises
    ------
    InputError
        If a cell is empty or does not match the pattern; the message names the rows.
    """
    cells = column(frame, path, key.column)
    if cells.isna().any():
        raise InputError(path, f"column {key.column!r} is empty in {rows(cells.isna())}", "Fill in or delete the rows")
    cells = cells.map(lambda cell: unicodedata.normalize("NFC", str(cell)).strip())
    if key.pattern is None:
        return cells
    matches = cells.str.extract(key.pattern, expand=False)
    if matches.isna().any():
        wrong = f"{listed(list(cells[matches.isna()]))} in {rows(matches.isna())} of column {key.column!r}"
        raise InputError(path, f"{wrong} does not match {key.pattern!r}", "Correct the pattern or the rows")
    return matches


def identifiers(frame: pd.DataFrame, path: Path, key: Column) -> pd.Series:
    """Return the ids of patients or slides of a column (`core.identifiers`).

    Raises
    ------
    InputError
        As `keys`, and if an id could not name a file; the message names the row.
    """
    cells = keys(frame, path, key)
    problems = cells.map(find_problem)
    if (wrong := problems != "").any():
        row = wrong.idxmax()
        raise InputError(path, f"column {key.column!r}, row {row}: {cells[row]!r} {problems[row]}", RULE)
    return cells


def numbers(cells: pd.Series, path: Path) -> pd.Series:
    """Return a text column as float64, NaN where empty; 1,5 is 1.5 where no cell contradicts.

    Raises
    ------
    InputError
        If a cell is not a finite number; the message names column, rows and values.
    """
    parsed = pd.to_numeric(cells, errors="coerce").astype(np.float64)
    wrong = cells.notna() & ~np.isfinite(parsed)
    if wrong.any() and (points := decimal_points(cells)) is not None:
        return pd.to_numeric(points).astype(np.float64)
    if wrong.any():
        problem = f"column {cells.name!r} holds {listed(list(cells[wrong]))} in {rows(wrong)}, which is not a number"
        raise InputError(path, problem, "Correct the cells (a point before decimals) or leave them empty")
    return parsed


def decimal_points(cells: pd.Series) -> pd.Series | None:
    """Return numbers with a decimal comma with a point instead; None where they are none, or 1,234 could be 1234."""
    text = cells.dropna().astype(str).str.strip()
    commas = text[text.str.contains(",", regex=False)]
    plain = text.str.fullmatch(r"[-+]?\d+(?:,\d+)?(?:[eE][-+]?\d+)?").all()
    if commas.empty or not plain or commas.str.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}").all():
        return None
    return cells.where(cells.isna(), cells.astype(str).str.strip().str.replace(",", ".", regex=False))


def rows(mask: pd.Series) -> str:
    """Name the rows where a mask is true: ``rows 3, 8``."""
    numbers_ = [int(i) for i in mask.index[mask.to_numpy()]]
    return f"row{'s' if len(numbers_) > 1 else ''} {listed(numbers_)}"
