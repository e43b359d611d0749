"""What an identifier may be, and that no path made of one leaves its folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml.core.errors import InputError
from dml.core.files import inside
from dml.core.identifiers import find_problem, parse_identifier

GOOD = ["TCGA-02-0001", "12 345", "Müller_7", "=1+1", "-x", "a.b", "TCGA-02-0001-01Z-00-DX1.83fce43e"]
BAD = [
    "",
    "../x",
    "/etc/x",
    "a/b",
    "a\\b",
    "C:x",
    "x\n",
    "x\r\ny",
    "a\0b",
    "NUL",
    "com1.svs",
    " x",
    "x.",
    "x" * 201,
    "\u2028",
]


@pytest.mark.parametrize("text", GOOD)
def test_usual_ids_are_accepted(text: str) -> None:
    assert find_problem(text) == ""
    assert inside(Path("data"), f"{text}.parquet") == Path("data") / f"{text}.parquet"


@pytest.mark.parametrize("text", BAD)
def test_what_could_not_name_a_file_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="Identifiers name files"):
        parse_identifier(text, "slides.csv")


@pytest.mark.parametrize("part", ["..", ".", "", "/etc/passwd", "a/../../b", "..\\x", "a\0"])
def test_a_path_that_would_leave_its_folder_is_refused(part: str) -> None:
    with pytest.raises(InputError, match="cannot name a file"):
        inside(Path("data"), "ok", part)


@given(st.text(max_size=30))
def test_every_identifier_stays_inside(text: str) -> None:
    if not find_problem(text):
        path = inside(Path("/data/tiles"), f"{text}.parquet")
        assert path.resolve().parent == Path("/data/tiles")
