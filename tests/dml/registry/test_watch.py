"""A watched folder: finished files once each, failures with their reason, and nothing lost or doubled by a kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from dml.config.params import Params
from dml.core.errors import Busy, ConfigError, InputError
from dml.registry import registration
from dml.registry.watch import FAILED, FolderWatch, watch
from tests.trained_models import WIDTH, write_folds

ROOT = Path(__file__).resolve().parents[3]


def predict(rows: pd.DataFrame) -> pd.DataFrame:
    if "bad" in str(rows["path"].iloc[0]):
        raise InputError("bad.svs", "not a slide", "Export it again")
    return pd.DataFrame({"patient_id": rows["patient_id"], "status": "ok", "reason": "", "risk": 0.5})


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, content: str = "x", age_s: float = 60) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def watcher(export: Path, suffix: str = ".csv", **options: object) -> FolderWatch:
    return FolderWatch(export, export.parent / f"rows{suffix}", predict, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_is_predicted_once_when_it_is_finished(export: Path, suffix: str) -> None:
    put(export, "day/TCGA-02-0001-01Z.svs")
    put(export, ".hidden/b.svs")
    put(export, "notes.txt")
    one = watcher(export, suffix)
    assert one.look() == [], "seen once, it may still grow"
    (row,) = one.look()
    assert (row["file"], row["patient_id"], row["status"]) == ("day/TCGA-02-0001-01Z.svs", "TCGA-02-0001", "ok")
    assert one.look() == []
    again = watcher(export, suffix)
    assert again.look() == again.look() == [], "the table remembers it"


def test_a_file_that_grows_or_is_new_waits(export: Path) -> None:
    put(export, "a.svs", "x")
    put(export, "new.svs", "x", age_s=0)
    one = watcher(export)
    one.look()
    put(export, "a.svs", "xx")
    assert one.look() == []
    assert [row["file"] for row in one.look()] == ["a.svs"]


def test_a_file_that_is_written_anew_is_predicted_anew(export: Path) -> None:
    put(export, "a.svs")
    one = watcher(export)
    one.look(), one.look()
    put(export, "a.svs", "another scan")
    one.look()
    assert len(one.look()) == 1
    assert pd.read_csv(one.out)["bytes"].tolist() == [1, 12]


def test_failures_are_rows_with_a_reason_and_stop_nothing(export: Path) -> None:
    for name in ("a.svs", "bad.svs", "c.svs"):
        put(export, name)
    one = watcher(export)
    one.look(), one.look()
    table = pd.read_csv(one.out).set_index("file")
    assert table["status"].to_dict() == {"a.svs": "ok", "bad.svs": FAILED, "c.svs": "ok"}
    assert "not a slide" in table.loc["bad.svs", "reason"]


def test_what_cannot_be_watched_is_refused(export: Path) -> None:
    with pytest.raises(InputError, match="scanner exports to"):
        FolderWatch(export / "gone", export / "rows.csv", predict)
    with pytest.raises(InputError, match="rows cannot be added"):
        FolderWatch(export, export / "rows.json", predict)
    (export.parent / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no table of a watched folder"):
        watcher(export)


def test_two_processes_do_not_write_one_table(export: Path) -> None:
    def second(row: object) -> None:
        with pytest.raises(Busy, match="another process"):
            watch(watcher(export), 0, lambda row: None, lambda: True)

    put(export, "a.svs")
    looks = iter([False, False, True])
    watch(watcher(export), 0, second, lambda: next(looks))


def test_images_are_taken_where_their_resolution_is_given(export: Path) -> None:
    put(export, "a.png")
    assert not list(watcher(export)._arrivals())
    assert [a.file for a in watcher(export, with_images=True)._arrivals()] == ["a.png"]


def test_slides_and_watch_exclude_each_other(tmp_path: Path) -> None:
    from dml.cli.predict import predict as command

    with pytest.raises(ConfigError, match="one of --slides and --watch"):
        command("m", tmp_path / "rows.csv")


@pytest.mark.slow
def test_a_killed_watch_goes_on_and_doubles_nothing(
    client: MlflowClient, params: Callable[..., Params], export: Path
) -> None:
    """The command in a process of its own is killed twice, as a machine dies; in the end every file has one row."""
    write_folds(Path("models/demo/survival/student"), "student", mpps=(0.5,))
    reports = Path("reports/demo/survival")
    reports.mkdir(parents=True)
    (reports / "metrics.json").write_text('{"student": {"c_index": {"value": 0.7}}}')
    registration.register(params(), "survival", "student")
    rng, out = np.random.default_rng(0), Path("rows.csv")
    for i in range(40):
        np.save(export / f"s{i:02d}.npy", rng.normal(size=(200, WIDTH)).astype(np.float16))
    put(export, "broken.npy", "no array")
    code = "from dml.cli.app import main; main()"
    command = [sys.executable, "-c", code, "predict", "--model", "demo-survival-student@challenger",
               "--watch", str(export), "--out", str(out), "--poll", "0.2"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for wanted in (3, 12, 41):
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 90
            while count(out) < wanted and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            assert process.stderr is not None
            assert count(out) >= wanted, process.stderr.read().decode()
    table = pd.read_csv(out)
    assert sorted(table["file"]) == sorted(path.name for path in export.iterdir())
    assert table.set_index("file")["status"].value_counts().to_dict() == {"ok": 40, "refused": 1}


def count(out: Path) -> int:
    return len(pd.read_csv(out)) if out.exists() else 0
