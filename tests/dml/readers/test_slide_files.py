"""Which files of a folder are slides or features, whatever their case, links and neighbours."""

from pathlib import Path

import pytest

from dml.core.errors import InputError
from dml.features.file_arrays import READERS
from dml.readers.slide_files import FEATURE_SUFFIXES, SLIDE_PATTERN, feature_files, slide_files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def test_extensions_of_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "a.SVS", "b.TIF", "c.Tiff", "d.qptiff", "e.NDPI", "notes.txt")
    assert slide_files(tmp_path, SLIDE_PATTERN) == {
        "a": "a.SVS", "b": "b.TIF", "c": "c.Tiff", "d": "d.qptiff", "e": "e.NDPI"
    }  # fmt: skip


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "a.svs")
    touch(tmp_path / "slides", "b.svs")
    (tmp_path / "slides" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "slides")
    assert slide_files(tmp_path / "slides", SLIDE_PATTERN) == {"a": "linked/a.svs", "b": "b.svs"}


def test_a_broken_link_is_a_slide_that_fails_by_name(tmp_path: Path) -> None:
    from dml.slides.reader import open_slide

    touch(tmp_path, "a.svs")
    (tmp_path / "b.svs").symlink_to(tmp_path / "gone.svs")
    files = slide_files(tmp_path, SLIDE_PATTERN)
    assert files == {"a": "a.svs", "b": "b.svs"}
    with pytest.raises(InputError, match=r"b\.svs: a broken link to .*gone\.svs"):
        open_slide(tmp_path / files["b"])


def test_what_looks_like_a_slide_and_is_left_out_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.svs", "b.czi", "c.SVS", "Thumbs.db", "notes.txt")
    assert slide_files(tmp_path, r"(.+)\.svs$") == {"a": "a.svs"}
    assert "look like slides, and do not match" in caplog.text
    assert "b.czi, c.SVS" in caplog.text
    assert "notes" not in caplog.text


def test_images_are_slides_in_a_folder_of_them_and_pictures_beside_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path / "images", "C2.jpg", "C3.JPEG", "C4.png")
    assert slide_files(tmp_path / "images", SLIDE_PATTERN) == {"C2": "C2.jpg", "C3": "C3.JPEG", "C4": "C4.png"}
    touch(tmp_path / "scans", "a.svs", "a.jpg", "b-label.png")
    assert slide_files(tmp_path / "scans", SLIDE_PATTERN) == {"a": "a.svs"}
    assert "look like slides, and do not match" in caplog.text
    assert "a.jpg, b-label.png" in caplog.text
    assert slide_files(tmp_path / "scans", r"(b-.*)[.]png$") == {"b-label": "b-label.png"}


def test_a_dicom_series_is_one_slide(tmp_path: Path) -> None:
    touch(tmp_path, "P1-A/1.dcm", "P1-A/2.dcm", "P2-B/x.DCM", "P3.svs")
    assert slide_files(tmp_path, SLIDE_PATTERN) == {"P1-A": "P1-A/1.dcm", "P2-B": "P2-B/x.DCM", "P3": "P3.svs"}
    touch(tmp_path, "loose.dcm")
    with pytest.raises(InputError, match=r"loose\.dcm is part of a DICOM series\. Put each series into a folder"):
        slide_files(tmp_path, SLIDE_PATTERN)


def test_locks_and_thumbnails_are_no_features(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.h5", "a.h5.lock", "Thumbs.db", "b.H5")
    assert feature_files(tmp_path, r"(.+)\.[^.]+$") == {"a": "a.h5", "b": "b.H5"}
    assert caplog.text.count("left out, not files of features: Thumbs.db, a.h5.lock") == 1


def test_a_name_that_cannot_name_a_file_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "nul.svs")
    with pytest.raises(InputError, match="device name of Windows"):
        slide_files(tmp_path, SLIDE_PATTERN)


def test_the_same_files_are_listed_and_read() -> None:
    assert set(FEATURE_SUFFIXES) == set(READERS)
