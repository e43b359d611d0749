"""Fields of slides as cells of the slide table and as a file of boxes; what is none is named with its rows."""

from pathlib import Path

import pandas as pd
import pytest

from dml.core.errors import InputError
from dml.readers.field_boxes import parse_boxes, read_field_file


def written(folder: Path, text: str) -> Path:
    path = folder / "fields.csv"
    path.write_text(text)
    return path


def test_boxes_of_a_file_keep_their_order(tmp_path: Path) -> None:
    path = written(tmp_path, "slide_id,x,y,width,height\na,5,6,7,8\nb,0,0,10,10\na,1,2,3.0,4\n")
    assert read_field_file(path, {"a", "b", "c"}) == {"a": [[5, 6, 7, 8], [1, 2, 3, 4]], "b": [[0, 0, 10, 10]]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("z,0,0,1,1", r"fields\.csv: fields of slides that are not in the slide table: z in row 3"),
        ("a,-5,0,10,10", r"no fields: row 3 \(-5 0 10 10: a corner outside the image\)"),
        ("a,0,0,0,10", r"row 3 \(0 0 0 10: no area\)"),
        ("a,0,0,10.5,10", r"row 3 \(0 0 10\.5 10: no whole pixels\)"),
        ("a,0,0,ten,10", r"column 'width' holds ten in row 3"),
        ("a,0,0,,10", r"row 3 \(0 0 nan 10: no whole pixels\)"),
    ],
)
def test_what_is_no_field_is_named_with_its_row(tmp_path: Path, row: str, message: str) -> None:
    path = written(tmp_path, f"slide_id,x,y,width,height\na,0,0,10,10\n{row}\n")
    with pytest.raises(InputError, match=message):
        read_field_file(path, {"a"})


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'height'"):
        read_field_file(written(tmp_path, "slide_id,x,y,width,h\na,0,0,10,10\n"), {"a"})


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 2 3", r"1 2 3: 3 numbers instead of x, y, width, height"),
        ("1 2 3 4; 5 6 7 0", r"5 6 7 0: no area"),
        ("top left", r"'top left' is no list of numbers"),
        ("[1, 2, 3, 4]", r"is no list of numbers"),
        ("0 0 inf 5", r"no whole pixels"),
    ],
)
def test_a_cell_that_is_no_field_is_named_with_its_row(cell: str, message: str) -> None:
    cells = pd.Series(["1 2 3 4", cell], index=[2, 3], name="boxes")
    with pytest.raises(InputError, match=rf"slides\.csv: column boxes: no fields in row 3 \(.*{message}"):
        parse_boxes(cells, Path("slides.csv"))
