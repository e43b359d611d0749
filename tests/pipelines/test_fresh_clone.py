"""What `make demo` does in a fresh clone leaves git clean."""

import shutil
from pathlib import Path

import pytest

from dml.cli.cohort_lock import LOCKS
from tests.pipelines.conftest import Workplace, commit, copy_of_the_repository

pytestmark = pytest.mark.slow


@pytest.fixture
def clone(tmp_path: Path) -> Workplace:
    place = copy_of_the_repository(tmp_path / "repo")
    (place.folder / "dvc.lock").symlink_to(LOCKS / "demo.lock")
    commit(place, "as published")
    return place


def test_the_demo_leaves_git_clean(clone: Workplace) -> None:
    clone.run("dml", "cohort", "use", "demo")
    clone.run("dml", "cohort", "demo", "--patients", "40", "--slide-px", "512")
    assert clone.run("git", "status", "--porcelain").stdout == ""
    clone.run("dvc", "repro", "check_cohort")
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert "check_cohort" in clone.read("dvc.lock").decode()
    assert "up to date" in clone.run("dvc", "repro", "check_cohort").stdout
    clone.run("dml", "results", ok=False)
    assert clone.run("git", "status", "--porcelain").stdout == ""


def test_a_real_cohort_has_a_lock_to_commit_without_the_demo_in_it(clone: Workplace) -> None:
    clone.run("dml", "cohort", "use", "demo")
    clone.run("dml", "cohort", "demo", "--patients", "40", "--slide-px", "512")
    clone.run("dvc", "repro", "cohort")
    description = clone.read("cohorts/demo.yaml").decode().replace("name: demo", "name: real")
    (clone.folder / "cohorts/real.yaml").write_text(description.replace("generated: true\n", ""))
    shutil.copytree(clone.folder / "data/raw/demo", clone.folder / "data/raw/real")
    clone.run("dml", "cohort", "use", "real")
    clone.run("dvc", "repro", "cohort")
    assert not (clone.folder / "dvc.lock").is_symlink()
    assert "data/demo" not in clone.read("dvc.lock").decode()
    commit(clone, "a real cohort")
    clone.run("dml", "cohort", "use", "demo")
    assert "up to date" in clone.run("dvc", "repro", "cohort").stdout
    clone.run("dml", "cohort", "use", "real")
    assert clone.run("git", "status", "--porcelain").stdout == ""
