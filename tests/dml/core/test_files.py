"""Files are whole or not there, a second writer is told who is writing, and what is damaged is named."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from dml.core.errors import Busy, InputError
from dml.core.files import atomic, digest, only_writer, read_json, read_parquet, write_json, write_parquet


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"n": 1})

    def full() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device", str(temporary))

    with pytest.raises(OSError, match="No space left on device"):
        full()
    assert read_json(path) == {"n": 1}
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_a_second_writer_is_told_who_is_writing(tmp_path: Path) -> None:
    with (
        only_writer("embed", folder=tmp_path),
        pytest.raises(Busy, match=rf"stage embed: process {os.getpid()} is still"),
        only_writer("embed", wait_s=0.01, folder=tmp_path),
    ):
        pytest.fail("two writers")
    with only_writer("embed", wait_s=0.01, folder=tmp_path):
        pass


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: the file does not exist\. Run the stage that writes it"):
        read_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"a\.parquet: not a readable Parquet file .*Delete it and run dvc repro"):
        read_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: not JSON"):
        read_json(tmp_path / "a.json")


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_parquet(tmp_path / f"{name}.parquet", pa.table({"x": [1, 2]}), {"b": 1, "a": [2]})
        write_json(tmp_path / f"{name}.json", {"b": 1, "a": 2} if name == "a" else {"a": 2, "b": 1})
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_parquet(tmp_path / "a.parquet")[1] == {"b": 1, "a": [2]}
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
