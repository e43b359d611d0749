"""Each cohort has a dvc.lock of its own; that of a generated one is a link that git never sees change."""

import copy
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dml.cli.app import app
from dml.cli.cohort_lock import EMPTY, LOCK, LOCKS, drop_stale_entries, switch_lock

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    return tmp_path


def test_the_committed_lock_is_the_link_of_the_demo() -> None:
    listed = subprocess.run(["git", "ls-files", "-s", "dvc.lock"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert listed.stdout.startswith("120000"), "a link: a regular file would change under a newcomer's hands"
    assert (ROOT / LOCK).readlink() == LOCKS / "demo.lock"


def test_using_the_demo_changes_neither_params_yaml_nor_the_lock(repository: Path) -> None:
    before = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(before)
    Path("cohorts").mkdir()
    Path("cohorts/demo.yaml").write_text((ROOT / "cohorts/demo.yaml").read_text())
    LOCK.symlink_to(LOCKS / "demo.lock")
    done = CliRunner().invoke(app, ["cohort", "use", "demo"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert Path("params.yaml").read_text() == before
    assert LOCK.readlink() == LOCKS / "demo.lock"
    assert LOCK.read_text() == EMPTY, "what it points to exists: DVC refuses a link to nothing"


def test_a_lock_is_put_aside_and_comes_back(repository: Path) -> None:
    switch_lock("demo", "demo", generated=True)
    LOCK.write_text("of the demo")  # DVC writes through the link
    switch_lock("demo", "real", generated=False)
    assert not LOCK.exists(), "nothing of the demo is in the lock of a real cohort"
    LOCK.write_text("of real")
    switch_lock("real", "other", generated=False)
    assert not LOCK.exists()
    switch_lock("other", "demo", generated=True)
    assert LOCK.is_symlink()
    assert LOCK.read_text() == "of the demo"
    switch_lock("demo", "real", generated=False)
    assert not LOCK.is_symlink()
    assert LOCK.read_text() == "of real"
    switch_lock("real", "real", generated=False)
    assert LOCK.read_text() == "of real"


def test_the_lock_that_an_earlier_version_left_becomes_that_of_the_demo(repository: Path) -> None:
    LOCK.write_text("before")
    switch_lock("demo", "demo", generated=True)
    assert LOCK.is_symlink()
    assert LOCK.read_text() == "before"


def test_generated_cohorts_say_so() -> None:
    described = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "cohorts").glob("*.yaml")}
    assert [name for name, content in described.items() if content.get("generated")] == ["demo"]


def test_entries_of_stages_that_no_longer_exist_are_dropped(repository: Path) -> None:
    stage = {"cmd": "x", "deps": [{"path": "a", "md5": "0"}], "params": {"params.yaml": {"tasks": ["survival"]}}}
    names = ("cohort", "train@survival-0", "former", "former_matrix@a-1", "evaluate@survival")
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {name: {} for name in ("cohort", "train", "evaluate")}}))
    switch_lock("demo", "demo", generated=True)
    LOCK.write_text(
        yaml.safe_dump({"schema": "2.0", "stages": {n: copy.deepcopy(stage) for n in names}}, sort_keys=False)
    )
    assert drop_stale_entries(LOCK) == ["former", "former_matrix"]
    left = yaml.safe_load(LOCK.read_text())
    assert left == {"schema": "2.0", "stages": {n: stage for n in names if "former" not in n}}
    assert LOCK.is_symlink(), "written through the link"
    before = LOCK.read_bytes()
    assert drop_stale_entries(LOCK) == []
    assert LOCK.read_bytes() == before


def test_every_entry_of_the_committed_locks_is_of_a_stage(repository: Path) -> None:
    shown = subprocess.run(["git", "ls-files", "*.lock"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in shown.stdout.split():
        Path("copy.lock").write_text((ROOT / name).read_text() if (ROOT / name).exists() else EMPTY)
        assert drop_stale_entries(Path("copy.lock"), ROOT / "dvc.yaml") == [], name
