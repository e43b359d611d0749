"""Finished files are linked into place, or copied where links are not possible."""

import os
from pathlib import Path

import pytest

from dml.core.cache import cache_dir, hardlink


def test_links_and_replaces(tmp_path: Path) -> None:
    (tmp_path / "done").write_text("new")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("old")
    hardlink(tmp_path / "done", tmp_path / "out" / "a")
    assert (tmp_path / "out" / "a").samefile(tmp_path / "done")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_copies_where_links_are_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "done").write_text("new")
    hardlink(tmp_path / "done", tmp_path / "sub" / "a")
    assert (tmp_path / "sub" / "a").read_text() == "new"
    assert not (tmp_path / "sub" / "a").samefile(tmp_path / "done")


def test_work_folder() -> None:
    assert cache_dir("tiles", "abcd", Path("w")) == Path("w/tiles/ab/abcd")
