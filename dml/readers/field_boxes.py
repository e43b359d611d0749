"""Fields of slides in tables: boxes of whole pixels, as a column of the slide table or a file with one row a field."""

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from dml.core.errors import InputError, listed
from dml.readers.columns import Column
from dml.readers.table_files import MISSING, column, identifiers, numbers, read_table, rows

Box = list[int]
COLUMNS = ("x", "y", "width", "height")
"""Of a file of fields, beside slide_id: top-left corner and size in pixels of the full image."""
_REMEDY = "A field is a corner (x, y) in the image, and a width and height above 0, in whole pixels of the full image"


def read_field_file(path: Path, slides: Collection[str]) -> dict[str, list[Box]]:
    """Read a file with the columns slide_id, x, y, width, height, in the order of its rows.

    Parameters
    ----------
    path : Path
        Any table that `read_table` reads.
    slides : collection of str
        Ids of the slide table.

    Raises
    ------
    InputError
        If a column is missing, a box is none, or a slide is not in the slide table; the rows are named.
    """
    frame = read_table(path)
    ids = identifiers(frame, path, Column(column="slide_id"))
    unknown = ~ids.isin(set(slides))
    if unknown.any():
        names = listed(sorted(set(ids[unknown])))
        problem = f"fields of slides that are not in the slide table: {names} in {rows(unknown)}"
        raise InputError(path, problem, "Correct slide_id, or delete the rows")
    boxes = pd.DataFrame({name: numbers(column(frame, path, name), path) for name in COLUMNS})
    wrong = pd.Series([_problem(box) != "" for box in boxes.to_numpy().tolist()], index=frame.index, dtype=bool)
    if wrong.any():
        raise InputError(path, f"no fields: {rows(wrong)} ({_problem(boxes[wrong].iloc[0].tolist())})", _REMEDY)
    grouped: dict[str, list[Box]] = {}
    for slide, box in zip(ids, boxes.astype("int64").to_numpy().tolist(), strict=True):
        grouped.setdefault(slide, []).append(box)
    return grouped


def parse_boxes(cells: pd.Series, path: Path) -> list[list[Box] | None]:
    """Read cells like ``0 0 800 600; 900 0 800 600`` (x, y, width, height; or as JSON); None where a cell is empty.

    Raises
    ------
    InputError
        If a cell is something else; the rows are named.

    Examples
    --------
    >>> parse_boxes(pd.Series(["0 0 800 600; 900,0,800,600", None, "[[1, 2, 3, 4]]"]), Path("slides.csv"))
    [[[0, 0, 800, 600], [900, 0, 800, 600]], None, [[1, 2, 3, 4]]]
    """
    parsed = [_parse_cell(cell) for cell in cells]
    wrong = pd.Series([isinstance(each, str) for each in parsed], index=cells.index, dtype=bool)
    if wrong.any():
        reason = next(each for each in parsed if isinstance(each, str))
        raise InputError(path, f"column {cells.name}: no fields in {rows(wrong)} ({reason})", _REMEDY)
    return [None if isinstance(each, str) else each for each in parsed]


def _parse_cell(cell: object) -> list[Box] | str | None:
    """Return the boxes of a cell, or what is wrong with it."""
    if cell is None or pd.isna(cell) or str(cell).strip() in MISSING:  # type: ignore[call-overload]
        return None
    text = str(cell).strip()
    try:
        if text.startswith("["):
            boxes = [[float(value) for value in box] for box in json.loads(text)]
        else:
            parts = [part for part in text.split(";") if part.strip()]
            boxes = [[float(value) for value in re.split(r"[,\s]+", part.strip())] for part in parts]
    except (ValueError, TypeError):
        return f"{text[:60]!r} is no list of numbers"
    problems = [problem for box in boxes if (problem := _problem(box))]
    return problems[0] if problems else [[int(value) for value in box] for box in boxes]


def _problem(box: Sequence[float]) -> str:
    """Say why numbers are no box; '' if they are one."""
    shown = " ".join(f"{value:g}" for value in box)
    if len(box) != len(COLUMNS):
        return f"{shown}: {len(box)} numbers instead of {', '.join(COLUMNS)}"
    if not all(float(value).is_integer() for value in box):
        return f"{shown}: no whole pixels"
    x, y, width, height = box
    if min(x, y) < 0 or min(width, height) <= 0:
        return f"{shown}: {'a corner outside the image' if min(x, y) < 0 else 'no area'}"
    return ""
