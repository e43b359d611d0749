"""The generated cohort as files: what is written, equal bytes for equal arguments, resuming."""

import gzip
import importlib
import os
import shutil
from pathlib import Path

import numpy as np
import openslide
import pandas as pd
import pytest
import tifffile

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression
from dml.cohorts.gene_groups import build_gene_groups
from dml.cohorts.patients import build_patients
from dml.cohorts.slide_table import build_slides
from dml.core.errors import ConfigError
from dml.demo import generate_cohort

COHORTS = Path(__file__).parents[3] / "cohorts"
GENERATE = importlib.import_module("dml.demo.generate")
SMALL = {"patients": 6, "slide_px": 512, "progress": False}


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate_cohort(folder, **SMALL)
    return folder


def test_equal_arguments_give_equal_bytes_and_another_seed_other_slides(demo: Path, tmp_path: Path) -> None:
    generate_cohort(tmp_path / "again", **SMALL, workers=1)
    first, again = read_files(demo), read_files(tmp_path / "again")
    assert first == again
    assert set(first) >= {"patients.csv", "slides.csv", "expression.csv.gz", "oracle.csv", "oracle.json"}
    generate_cohort(tmp_path / "other", **{**SMALL, "patients": 3}, seed=8)
    other = read_files(tmp_path / "other")
    shared = [name for name in first if name in other]
    assert [name for name in shared if first[name] == other[name]] == []


@pytest.mark.slow
def test_two_processes_write_the_same_bytes_as_one(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GENERATE, "MAX_SERIAL_MEGAPIXELS", 0)
    generate_cohort(tmp_path, **SMALL, workers=2)
    assert read_files(tmp_path) == read_files(demo)


def test_openslide_reads_resolution_and_levels(demo: Path) -> None:
    for row in pd.read_csv(demo / "slides.csv").itertuples():
        with openslide.OpenSlide(demo / row.path) as slide:
            assert slide.properties["openslide.vendor"] == "generic-tiff"
            assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
            assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.5)
            assert slide.level_count >= 3
            assert slide.level_downsamples == pytest.approx([2.0**k for k in range(slide.level_count)])
            assert all(0.9 * 512 <= side <= 1.22 * 512 for side in slide.dimensions)


def test_coarser_levels_are_means_of_finer_ones(demo: Path) -> None:
    with tifffile.TiffFile(demo / "slides/DEMO-001-1.tif") as file:
        base, second = (file.pages[k].asarray() for k in (0, 1))
    means = base.reshape(base.shape[0] // 2, 2, base.shape[1] // 2, 2, 3).mean(axis=(1, 3))
    assert np.abs(second - means).max() <= 0.5


def test_resolution_and_size_are_respected(tmp_path: Path) -> None:
    generate_cohort(tmp_path, patients=3, sites=1, slide_px=640, mpp=0.25, second_slide=0.0, progress=False)
    slides = pd.read_csv(tmp_path / "slides.csv")
    assert len(slides) == 3
    with openslide.OpenSlide(tmp_path / slides["path"][0]) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert all(0.9 * 640 <= side <= 1.22 * 640 for side in slide.dimensions)


def test_the_description_reads_what_was_generated(demo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/demo").symlink_to(demo)
    description = CohortDescription.load("demo", COHORTS)
    patients, slides, matrix = build_patients(description), build_slides(description), build_expression(description)
    groups = build_gene_groups(description)
    assert len(patients) == 6
    assert sorted(patients["site"].unique()) == ["site-1", "site-2", "site-3"]
    assert set(patients["grade"].dropna()) <= {"G2", "G3", "G4"}
    assert patients["sex"].isin([0.0, 1.0]).all()
    assert all(Path(path).exists() for path in slides["path"])
    assert set(groups.tumor) | set(groups.tme) < set(matrix.genes)
    assert matrix.unit == "log2_tpm"


def copy_cohort(demo: Path, to: Path) -> Path:
    shutil.copytree(demo, to, dirs_exist_ok=True)
    return to


def test_a_second_run_paints_only_what_is_missing_or_was_painted_otherwise(demo: Path, tmp_path: Path) -> None:
    folder = copy_cohort(demo, tmp_path)
    first, second, third = sorted((folder / "slides").glob("*.tif"))[:3]
    untouched = first.stat().st_mtime_ns
    second.unlink()
    third.write_bytes(b"")
    (folder / "patients.csv").unlink()
    generate_cohort(folder, **SMALL)
    assert first.stat().st_mtime_ns == untouched
    assert read_files(folder) == read_files(demo)


def test_what_another_run_left_is_tidied(demo: Path, tmp_path: Path) -> None:
    folder = copy_cohort(demo, tmp_path)
    dead, mine = 2**22 + 1, os.getpid()  # the first is above the largest process id
    half_files = [folder / f"slides/.DEMO-001-1.tif.{process}-0a1b2c3d.tmp" for process in (dead, mine)]
    of_a_larger_cohort = folder / "slides/DEMO-099-1.tif"
    for path in (*half_files, of_a_larger_cohort, folder / "slides/mine.tif"):
        path.touch()
    generate_cohort(folder, **SMALL)
    assert [path.exists() for path in half_files] == [False, True]
    assert not of_a_larger_cohort.exists()
    assert (folder / "slides/mine.tif").exists()


def test_a_run_that_fails_leaves_no_table_of_other_arguments(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_cohort(demo, tmp_path)

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(GENERATE, "make_slide", full_disk)
    with pytest.raises(OSError, match="no space"):
        generate_cohort(folder, **SMALL, seed=9)
    assert not (folder / "patients.csv").exists()
    assert not (folder / "oracle.json").exists()


def test_expression_file_carries_no_time_stamp(demo: Path) -> None:
    raw = (demo / "expression.csv.gz").read_bytes()
    assert raw[4:8] == b"\0\0\0\0"
    assert gzip.decompress(raw).startswith(b"patient_id,")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"patients": 2}, "patients"), ({"slide_px": 100}, "slide_px"), ({"censored": 1.0}, "censored")],
)
def test_impossible_arguments_are_named(tmp_path: Path, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate_cohort(tmp_path, progress=False, **arguments)
    assert read_files(tmp_path) == {}
