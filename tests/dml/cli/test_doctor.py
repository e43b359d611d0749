"""`dml doctor` sees every kind of broken state, gives the command that mends it, and never a traceback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

from dml.cli.app import app
from dml.core.files import only_writer, write_json, write_parquet
from dml.tracking import store
from pipelines.stage import stage
from tests import painted

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"cohort": "demo", "tasks": ["survival"], "folds": [0, 1]}
Row = dict[str, str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    Path("params.yaml").write_text(yaml.safe_dump(SMALL))
    Path("dvc.yaml").write_text("stages: {}\n")
    for folder in (".dvc/tmp", "cohorts", "data/raw/demo"):
        Path(folder).mkdir(parents=True)
    Path("cohorts/demo.yaml").write_text((ROOT / "cohorts/demo.yaml").read_text())
    return tmp_path


def examine(check: str) -> Row:
    done = CliRunner().invoke(app, ["doctor", "--json"], catch_exceptions=False)
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert done.exit_code == int(any(row["status"] == "fail" for row in rows.values()))
    return dict(rows[check])


def write_stores(folder: Path) -> None:
    table = pa.table({"patient_id": ["a"], "path": [""]})
    for name in ("patients", "slides", "expression", "splits", "features/manifest", "features/tiny/0.5/s1"):
        write_parquet(folder / f"{name}.parquet", table)
    write_json(folder / "gene_groups.json", {})


def test_a_sound_repository_has_no_complaint(here: Path) -> None:
    write_stores(Path("data/demo"))
    for check in ("params.yaml", "cohorts", "stores", "encoder", "dvc", "locks", "tracking"):
        assert examine(check)["status"] == "ok", examine(check)


@pytest.mark.parametrize(
    ("path", "text", "check", "remedy"),
    [
        ("params.yaml", "cohort: [", "params.yaml", "correct"),
        (
            "params.yaml",
            "cohort: demo\ntasks: [a]\nfolds: [0, 1]\nmodel: {references: 3}\n",
            "params.yaml",
            "dml migrate",
        ),
        ("params.yaml", "cohort: demo\ntasks: [a]\nfolds: [0, 1]\nembed: {encoder: no}\n", "encoder", "embed.encoder"),
        (
            "params.yaml",
            "cohort: demo\ntasks: [a]\nfolds: [0, 1]\nbaselines: {deep: [teacher]}\n",
            "params.yaml",
            "correct",
        ),
        (
            "params.yaml",
            "cohort: demo\ntasks: [a]\nfolds: [0, 1]\nbaselines: {deep: [nobody]}\n",
            "params.yaml",
            "correct",
        ),
        ("cohorts/demo.yaml", "name: [", "cohorts", "Correct"),
        ("cohorts/demo.yaml", "name: demo\nwhatever: 1\n", "cohorts", "Correct"),
        ("dvc.lock", "", "dvc", "rm dvc.lock && dvc repro"),
        ("dvc.lock", "\0" * 64, "dvc", "rm dvc.lock && dvc repro"),
        ("dvc.lock", "schema: '2.0'\n<<<<<<< HEAD\n  a: [", "dvc", "rm dvc.lock && dvc repro"),
        ("dvc.lock", "stages: {}\n", "dvc", "rm dvc.lock && dvc repro"),
        (".work/locks/evaluate-grade.pid", "999999999", "locks", "rm .work/locks/evaluate-grade.pid"),
        (".dvc/tmp/rwlock", '{"a": {"write": {"pid": 999999999, "cmd": "x"}}}', "locks", "rm .dvc/tmp/rwlock"),
    ],
)
def test_a_broken_file_is_named_with_its_remedy(here: Path, path: str, text: str, check: str, remedy: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    row = examine(check)
    assert row["status"] in ("warn", "fail")
    assert remedy in row["remedy"]


def test_a_lock_that_a_kill_cut_comes_back_from_the_copy_of_the_stage_before(here: Path) -> None:
    whole = "schema: '2.0'\nstages:\n  cohort:\n    cmd: a\n"
    Path("dvc.lock").write_text(whole)
    Path(".dvc/tmp").mkdir(parents=True, exist_ok=True)
    stage(lambda: None)()  # each stage copies the lock as DVC has written it
    Path("dvc.lock").write_text(whole[:25] + "  a: [")
    command = examine("dvc")["remedy"]
    assert command == "cp .dvc/tmp/dvc.lock.whole dvc.lock && dvc repro"
    shutil.copy(*command.split()[1:3])
    assert Path("dvc.lock").read_text() == whole
    assert examine("dvc")["status"] == "ok"


def test_a_lock_of_a_process_at_work_is_no_fault(here: Path) -> None:
    with only_writer("split"):
        row = examine("locks")
    assert (row["status"], row["result"]) == ("ok", "at work: split")
    Path(".dvc/tmp/rwlock").write_text(json.dumps({"a": {"read": [{"pid": os.getpid(), "cmd": "dvc"}]}}))
    assert examine("locks")["status"] == "ok"


def test_a_lock_that_links_to_nothing_is_seen(here: Path) -> None:
    Path("dvc.lock").symlink_to(".dvc/tmp/cohorts/demo.lock")
    row = examine("dvc")
    assert (row["status"], row["remedy"]) == ("fail", "dml cohort use demo")


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"\0" * len(b), lambda b: b[:-9]])
@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("patients.parquet", "cohort"),
        ("gene_groups.json", "cohort"),
        ("splits.parquet", "split"),
        ("features/manifest.parquet", "extract_features"),
        ("features/tiny/0.5/s1.parquet", "extract_features"),
    ],
)
def test_a_zeroed_or_truncated_store_is_named_with_its_stage(
    here: Path, damage: Callable[[bytes], bytes], name: str, stage: str
) -> None:
    write_stores(Path("data/demo"))
    path = Path("data/demo") / name
    path.write_bytes(damage(path.read_bytes()) if name != "gene_groups.json" else b"\0\0")
    row = examine("stores")
    assert row["status"] == "fail"
    assert str(path) in row["result"]
    assert f"rm {path}" in row["remedy"]
    assert f"dvc repro {stage}" in row["remedy"]


def test_the_remedy_of_a_damaged_feature_file_takes_its_twin_away(here: Path) -> None:
    write_stores(Path("data/demo"))
    path, twin = Path("data/demo/features/tiny/0.5/s1.parquet"), Path(".work/features/ab/s1.parquet")
    twin.parent.mkdir(parents=True)
    path.write_bytes(path.read_bytes()[:-9])
    os.link(path, twin)
    commands = examine("stores")["remedy"].removeprefix("For each: ").rpartition(";")[0]
    subprocess.run(commands, shell=True, check=True)
    assert not path.exists()
    assert not twin.exists()


def test_an_encoder_that_cannot_be_imported_is_seen(here: Path) -> None:
    Path("encoders").mkdir()
    Path("encoders/mine.yaml").write_text("width: [")
    Path("params.yaml").write_text(yaml.safe_dump({**SMALL, "embed": {"encoder": "mine"}}))
    row = examine("encoder")
    assert row["status"] == "fail"
    assert row["remedy"]


def test_a_package_that_an_encoder_needs_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from dml.encoders import registry

    card = replace(painted.fake_card("tiny"), requirements=("no-such-package", "numpy"))
    monkeypatch.setitem(registry._registered, "tiny", card)
    Path("params.yaml").write_text(yaml.safe_dump({**SMALL, "embed": {"encoder": "tiny"}}))
    row = examine("encoder")
    assert row["status"] == "fail"
    assert row["remedy"] == "pip install no-such-package -c constraints.txt"


@pytest.mark.parametrize(
    "uri", ["nonsense", "sqlite:///nowhere/mlflow.db", "sqlite:///typo.db", "http://127.0.0.1:9", "file:///tmp/x"]
)
def test_a_wrong_address_of_the_tracking_store_is_seen(here: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    row = examine("tracking")
    assert row["status"] == "fail"
    assert "MLFLOW_TRACKING_URI" in row["remedy"]
    assert not Path("typo.db").exists(), "nothing is created by looking"


def test_a_deleted_experiment_can_be_restored_by_the_remedy(here: Path) -> None:
    client = store.connect()
    client.delete_experiment(store.experiment(client, "demo-survival"))
    row = examine("tracking")
    assert row["status"] == "fail"
    assert "demo-survival" in row["result"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(row["remedy"], shell=True, check=True, env=environment, capture_output=True)
    assert examine("tracking")["status"] == "ok"


def test_outside_a_repository_every_check_still_answers(here: Path) -> None:
    for path in Path().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    row = examine("dvc")
    assert (row["status"], row["remedy"]) == ("fail", "Run from the root of the repository")
