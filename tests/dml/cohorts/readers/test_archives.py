import zipfile
from pathlib import Path

import pytest

from dml.cohorts.readers.archives import members
from dml.core.errors import InputError


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
