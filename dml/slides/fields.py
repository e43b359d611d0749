"""Fields of a slide: boxes in level-0 pixels that tiles are cut inside (regions of interest, cores of an array)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dml.core.errors import InputError


class Field(NamedTuple):
    """A box on a slide: top-left corner, width and height in level-0 pixels."""

    x: int
    y: int
    width: int
    height: int


def parse_fields(value: Iterable[Iterable[Any]] | None) -> tuple[Field, ...]:
    """Return the fields in a cell of the column `fields_px` of slides.parquet; none in an empty one.

    Examples
    --------
    >>> parse_fields([[0, 10, 200, 100]])
    (Field(x=0, y=10, width=200, height=100),)
    """
    if value is None or isinstance(value, float):  # pandas writes NaN for an empty cell
        return ()
    return tuple(Field(*map(int, box)) for box in value)


def check_fields(path: Path, fields: Sequence[Field], dimensions: tuple[int, int]) -> None:
    """Refuse fields that reach beyond a slide of these dimensions (width, height), naming each.

    Raises
    ------
    InputError
        With number and box of the fields that do.
    """
    width, height = dimensions
    outside = [
        f"field {number} (x {field.x}, y {field.y}, {field.width} x {field.height})"
        for number, field in enumerate(fields, 1)
        if min(field.x, field.y) < 0 or field.x + field.width > width or field.y + field.height > height
    ]
    if outside:
        problem = f"{', '.join(outside)} of {len(fields)} reaches beyond the image of {width} x {height} pixels"
        remedy = "Correct these rows of slides.table.fields: corner, width and height in pixels of the full image"
        raise InputError(path, problem, remedy)
