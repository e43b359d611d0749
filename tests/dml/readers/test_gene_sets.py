from pathlib import Path

import pytest

from dml.core.errors import InputError
from dml.readers.gene_sets import read_gene_sets
from dml.readers.raw_files import GeneSets


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("columns", "up,down\nA,C\nB ,\n"),
        ("long", "group,gene\nup,A\nup,B\ndown,C\nup,\n"),
        ("gmt", "up\thttp://x\tA\tB\ndown\t\tC\n"),
    ],
)
def test_the_same_sets_in_every_form(tmp_path: Path, kind: str, text: str) -> None:
    path = tmp_path / "sets.txt"
    path.write_text(text)
    assert read_gene_sets(path, GeneSets.model_validate({"file": "x", "kind": kind})) == {
        "up": ["A", "B"],
        "down": ["C"],
    }
    chosen = GeneSets.model_validate({"file": "x", "kind": kind, "select": ["down"]})
    assert read_gene_sets(path, chosen) == {"down": ["C"]}


def test_lines_may_carry_comments(tmp_path: Path) -> None:
    path = tmp_path / "oncogenes.txt"
    path.write_text("A\n# a comment\nB # another\n\n")
    assert read_gene_sets(path, GeneSets(file="x", kind="lines")) == {"oncogenes": ["A", "B"]}


def test_a_set_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "sets.csv"
    path.write_text("HALLMARK_HYPOXIA,HALLMARK_COMPLEMENT\nA,B\n")
    with pytest.raises(InputError, match=r"no set HALLMARK_X\. It has HALLMARK_HYPOXIA, HALLMARK_COMPLEMENT"):
        read_gene_sets(path, GeneSets(file="x", select=("HALLMARK_X",)))


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file does not exist"):
        read_gene_sets(tmp_path / "none.csv", GeneSets(file="x"))
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(InputError, match=r"no genes in it\. Is it really of kind columns\?"):
        read_gene_sets(tmp_path / "empty.csv", GeneSets(file="x"))


def test_the_estimate_spreadsheet_by_rows(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in [["Supplementary Data 1"], ["Set", "Description", 1, 2], ["Stromal141_UP", "stromal", "DCN", "LUM"]]:
        book.active.append(row)
    book.create_sheet("details").append(["Gene", "x", "y"])
    book.save(tmp_path / "s.xlsx")
    assert read_gene_sets(tmp_path / "s.xlsx", GeneSets(file="x", kind="estimate")) == {"Stromal141_UP": ["DCN", "LUM"]}


def test_what_is_no_workbook(tmp_path: Path) -> None:
    (tmp_path / "s.xlsx").write_text("hello")
    with pytest.raises(InputError, match="Is it an Excel workbook"):
        read_gene_sets(tmp_path / "s.xlsx", GeneSets(file="x", kind="estimate"))
