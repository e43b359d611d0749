"""Any table people have on disk is read; what is wrong with it is said with file, column and rows."""

import gzip
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dml.cohorts.columns import Column
from dml.cohorts.readers.tables import column, delimiter, keys, members, numbers, read_table
from dml.core.errors import InputError

TEXT = "id,days\nA,1.5\nB,NA\nC,3\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner.csv", text)
            archive.writestr("__MACOSX/._inner.csv", "junk")
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.zip", "t.tsv", "t.txt"])
@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_reads_every_packing_and_delimiter_alike(tmp_path: Path, name: str, separator: str) -> None:
    frame = read_table(write(tmp_path, name, TEXT.replace(",", separator)))
    assert frame["id"].tolist() == ["A", "B", "C"]
    assert frame["days"].isna().tolist() == [False, True, False]
    assert frame.index.tolist() == [2, 3, 4]


def test_reads_parquet_as_text_with_rows_from_one(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": ["A", "B"], "dead": [1.0, None], "n": [1, 2]}).to_parquet(path)
    frame = read_table(path)
    assert frame["dead"].tolist()[0] == "1.0"
    assert pd.isna(frame["dead"].tolist()[1])
    assert frame["n"].tolist() == ["1", "2"]
    assert frame.index.tolist() == [1, 2]


def test_skips_comment_lines_and_blank_rows_but_counts_them(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, "t.txt", "#a comment\n#another\nid\tx\nA\t1\n\nB\t2\n"))
    assert frame["id"].tolist() == ["A", "B"]
    assert frame.index.tolist() == [4, 6]


def test_a_byte_order_mark_is_not_part_of_the_first_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TEXT, encoding="utf-8-sig")
    assert list(read_table(path).columns) == ["id", "days"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "", r"t\.csv: the file is empty"),
        ("t.csv", "a,b,a\n1,2,3\n", r"the header repeats a\. Rename"),
        ("t.csv", "a,b\n1,2\n1,2,3\n", r"rows and header differ in length"),
        ("t.csv", "b\tc\nrow1\t1\t2\nrow2\t3\t4\n", r"rows and header differ in length"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_table(write(tmp_path, name, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: the file does not exist\. Put it there \(dml cohort import\)"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zip"])
def test_a_truncated_archive_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, TEXT * 50)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="cannot be unpacked"):
        read_table(path)


def test_a_zip_of_two_tables_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.csv", TEXT)
        archive.writestr("b.csv", TEXT)
    with pytest.raises(InputError, match=r"holds 2 files \(a\.csv, b\.csv\)"):
        read_table(tmp_path / "t.zip")


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("id,köln\n1,2\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 4\)\. Save it as CSV UTF-8"):
        read_table(tmp_path / "t.csv")


def test_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text(TEXT)
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_table(tmp_path / "t.parquet")


def test_a_missing_column_suggests_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "case_id,survival_months\nA,1\n")
    with pytest.raises(InputError, match=r"no column 'survival_month'\. Did you mean survival_months\?"):
        column(read_table(path), path, "survival_month")
    with pytest.raises(InputError, match=r"no column 'xyz'\. It has case_id, survival_months\."):
        column(read_table(path), path, "xyz")


def test_row_names_without_a_header_are_a_column(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", ",x\nA,1\n")
    assert column(read_table(path), path, "").tolist() == ["A"]


def test_keys_take_the_part_that_counts_and_name_bad_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "barcode\nTCGA-02-0001-01A\n TCGA-02-0002-01A\nX-1\n")
    frame = read_table(path)
    key = Column(column="barcode", pattern="^(TCGA-..-....)")
    assert keys(frame.iloc[:2], path, key).tolist() == ["TCGA-02-0001", "TCGA-02-0002"]
    with pytest.raises(InputError, match=r"X-1 in row 4 of column 'barcode' does not match"):
        keys(frame, path, key)


def test_an_empty_id_names_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "id,x\nA,1\n,2\n")
    with pytest.raises(InputError, match=r"column 'id' is empty in row 3\. Fill in or delete"):
        keys(read_table(path), path, Column(column="id"))


@pytest.mark.parametrize("cell", ["3,5", "12 months", "inf", "1e999"])
def test_what_is_no_number_is_named(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path, "t.csv", f'id,days\nA,1\nB,"{cell}"\n')
    with pytest.raises(InputError, match=r"column 'days' holds .* in row 3, which is not a number"):
        numbers(read_table(path)["days"], path)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="ascii", exclude_characters='\r\n"#'), min_size=1), min_size=2, max_size=5),
    st.sampled_from(",\t;|"),
)
def test_the_delimiter_is_found_whatever_quoted_cells_hold(cells: list[str], separator: str) -> None:
    assert delimiter(separator.join(f'"{cell}"' for cell in cells) + "\nx") == separator


def test_folder_and_zip_list_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    for name in ["b.h5", "sub/a.h5", ".hidden"]:
        (folder / name).write_text("x")
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for name in ["sub/a.h5", "b.h5", ".hidden", "__MACOSX/b.h5"]:
            archive.writestr(name, "x")
    assert members(folder) == members(tmp_path / "f.zip") == ["b.h5", "sub/a.h5"]


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.zip").write_text("not a zip")
    with pytest.raises(InputError, match="is neither a folder nor a zip file"):
        members(tmp_path / "f.zip")
    with pytest.raises(InputError, match="does not exist"):
        members(tmp_path / "none")
