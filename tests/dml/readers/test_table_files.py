"""Any table people have on disk is read; what is wrong with it is said with file, column and rows."""

import bz2
import contextlib
import gzip
import lzma
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dml.core.errors import InputError
from dml.readers.archives import members
from dml.readers.columns import Column
from dml.readers.expression.expression_format import to_float
from dml.readers.table_files import column, delimiter, identifiers, keys, numbers, read_table

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
    assert column(frame, Path("t"), "days").isna().tolist() == [False, True, False]
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
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 4, row 1\)\. Save it as CSV UTF-8"):
        read_table(tmp_path / "t.csv")


def test_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text(TEXT)
    with pytest.raises(InputError, match="Is it Parquet"):
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


@pytest.mark.parametrize("cell", ["1,234", "12 months", "inf", "1e999", "0x1F"])
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


AS_PEOPLE_SAVE_THEM = {
    "old Mac": TEXT.replace("\n", "\r").encode(),
    "Windows": TEXT.replace("\n", "\r\n").encode(),
    "UTF-16 of Excel": TEXT.replace(",", "\t").encode("utf-16"),
    "xz": lzma.compress(TEXT.encode()),
    "bz2": bz2.compress(TEXT.encode()),
    "gzip under another name": gzip.compress(TEXT.encode()),
    "no last line end": TEXT.encode().rstrip(),
}


@pytest.mark.parametrize("name", AS_PEOPLE_SAVE_THEM)
def test_what_programs_write_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(AS_PEOPLE_SAVE_THEM[name])
    frame = read_table(path, numeric=True)
    assert frame["id"].tolist() == ["A", "B", "C"]
    assert frame["days"].tolist()[::2] == [1.5, 3.0]
    assert frame["days"].isna().tolist() == [False, True, False]


def test_the_first_sheet_of_a_workbook_is_read_with_its_rows(tmp_path: Path) -> None:
    cells = pd.DataFrame({"id": ["A", "B", "C"], "days": [1.5, None, 3], "note": ["#N/A", "x", None]})
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        cells.to_excel(book, index=False, sheet_name="first")
        pd.DataFrame({"x": [1]}).to_excel(book, sheet_name="second")
    text = read_table(tmp_path / "t.xlsx")
    assert text.index.tolist() == [2, 3, 4]
    assert text["days"].tolist()[0] == "1.5"
    assert column(text, tmp_path, "note").isna().tolist() == [True, False, True]
    numeric = read_table(tmp_path / "t.xlsx", numeric=True)
    assert numeric["days"].dropna().tolist() == [1.5, 3.0]
    (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="Is it an Excel workbook"):
        read_table(tmp_path / "t.xlsx")


def test_the_index_of_pandas_is_a_column_of_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"days": [1, 2]}, index=pd.Index(["A", "B"], name="case"))
    frame.to_parquet(tmp_path / "t.parquet")
    assert column(read_table(tmp_path / "t.parquet"), tmp_path, "case").tolist() == ["A", "B"]
    frame.rename_axis(None).to_parquet(tmp_path / "t.parquet")
    assert column(read_table(tmp_path / "t.parquet"), tmp_path, "").tolist() == ["A", "B"]


DAMAGED = {
    "short row": (b"id,days,x\nA,1,2\nB,2\nC,3,4\n", r"row 3 has 2 cells, not 3"),
    "cut in a row": (b"id,days,x\nA,1,2\nB,2", r"row 3 has 2 cells, not 3"),
    "below comments": (b"#c\n#c\nid,days\nA,1\nB\n", r"row 5 has 1 cells, not 2"),
    "cut gzip": (gzip.compress(TEXT.encode() * 99)[:-20], "cannot be unpacked"),
    "corrupt gzip": (gzip.compress(TEXT.encode() * 99)[:30] + b"\xff" * 40, "cannot be unpacked"),
    "NUL": (b"id,days\nA,12\0\n", "NUL bytes"),
    "giant header": (b"id," + b"x" * 200_000 + b"\nA,1\n", "the header cannot be read"),
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 99, r"old Excel workbook"),
    "bomb": (gzip.compress(b"id,days\n" + b"A,1\n" * 2**25), "once unpacked"),
    "image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not UTF-8 text"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_tables_are_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = DAMAGED[name]
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_table(tmp_path / "t.csv")
    assert error.value.where == str(tmp_path / "t.csv")


def test_a_word_for_missing_stays_where_it_is_a_class(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, "t.csv", "id,arm\nA,None\nB,NA\n"))
    assert column(frame, tmp_path, "arm").isna().all()
    assert column(frame, tmp_path, "arm", keep=["None"]).tolist()[0] == "None"


def test_decimal_commas_are_read_where_they_can_be_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "id;days\nA;1,5\nB;1,234\nC;2\n")
    assert numbers(read_table(path)["days"], path).tolist() == [1.5, 1.234, 2.0]
    body = to_float(read_table(path, numeric=True, text=[0])[["days"]], path)
    assert body["days"].tolist() == [1.5, 1.234, 2.0]


def test_dates_and_truth_are_no_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "id,day,yes\nA,2021-03-01,true\nB,2021-03-02,false\n")
    for name in ("day", "yes"):
        with pytest.raises(InputError, match=f"column '{name}', row 2, is not a number"):
            to_float(read_table(path, numeric=True)[[name]], path)


def test_sixty_thousand_columns_take_seconds(tmp_path: Path, rng: np.random.Generator) -> None:
    header = "id," + ",".join(f"G{i}" for i in range(60_000))
    rows = [f"P{k}," + ",".join(map(str, rng.integers(0, 99, 60_000))) for k in range(4)]
    path = write(tmp_path, "t.csv", "\n".join([header, *rows]) + "\n")
    start = time.perf_counter()
    frame = read_table(path, numeric=True, text=["id"])
    assert frame.shape == (4, 60_001)
    assert frame["G59999"].tolist() == [int(row.rsplit(",", 1)[1]) for row in rows]
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("bad", ["../x", "/etc/x", "NUL", "a:b"])
def test_an_id_that_could_not_name_a_file_is_refused_with_its_row(tmp_path: Path, bad: str) -> None:
    path = write(tmp_path, "t.csv", f"id\nA\n{bad}\n")
    with pytest.raises(InputError, match=r"column 'id', row 3: .*Identifiers name files"):
        identifiers(read_table(path), path, Column(column="id"))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["t.csv", "t.csv.gz", "t.xlsx", "t.parquet", "t.zip"]))
def test_any_bytes_are_a_table_or_one_error(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(InputError):
        (Path(folder) / name).write_bytes(content)
        assert isinstance(read_table(Path(folder) / name), pd.DataFrame)
