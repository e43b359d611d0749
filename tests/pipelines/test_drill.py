"""The working day of a user, as a script: tune, kill, resume, apply, retrain, compare, promote, serve, refuse, undo."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tests.pipelines.conftest import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("small_demo")]  # they share a finished pipeline

NAME, STUDY, TRIALS = "demo-survival-student", "demo-survival-teacher", 12
LENIENT = {"floors": {"c_index": 0.1}, "calibration": {"ibs": [0.0, 1.0]}, "gap": 1.0, "margin": 1.0}
"""Thirty patients and three epochs decide nothing: that each gate refuses is tested in tests/dml/ops."""


@pytest.fixture
def place(finished_demo: Workplace, tmp_path: Path) -> Workplace:
    """A committed copy of the finished small demo, in another folder, with gates that let small numbers pass."""
    place = Workplace(tmp_path / "repo")
    shutil.copytree(finished_demo.folder, place.folder)
    place.set("promotion", **LENIENT)
    commit(place, "as it was")
    return place


def test_the_working_day(place: Workplace) -> None:
    promote(place, "first")
    assert aliases(place) == {"champion": "1"}

    place.set("optimisation", members=1)
    place.set("baselines", deep=[])
    place.set("tuning", warmup=3, grace=1)
    tune_with_a_kill_in_the_middle(place)
    assert "learning_rate" in place.run("dml", "apply", STUDY).stdout
    place.run(".ci/retrain")
    compare(place)
    place.run("dml", "promote", NAME, "--dry-run")
    assert aliases(place) == {"champion": "1", "challenger": "2"}
    promote(place, "tuned")
    assert aliases(place) == {"champion": "2", "previous": "1"}
    ask_over_http(place)
    ask_from_a_file(place)

    refuse_a_worse_one(place)
    place.run("dml", "rollback", NAME, "--why", "drill")
    assert aliases(place) == {"champion": "1", "challenger": "2"}
    actions = [json.loads(line)["action"] for line in place.read("mlruns/promotions.jsonl").splitlines()]
    assert actions == ["promote", "promote", "refuse", "rollback"]


def tune_with_a_kill_in_the_middle(place: Workplace) -> None:
    command = ("dml", "tune", "teacher", "--task", "survival", "--trials", str(TRIALS), "--workers", "2")
    running = place.start(*command)
    while len(finished(place)) < 4:
        assert running.poll() is None, "the study ended before it could be killed"
        time.sleep(0.2)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    before = finished(place)
    assert len(before) < TRIALS
    place.run(*command)
    trials, after = study(place), finished(place)
    assert len(after) == TRIALS, [trial.state for trial in trials]
    assert after.items() >= before.items()  # nothing that was done is lost, or was done again
    assert len({json.dumps(t.params, sort_keys=True) for t in trials if t.state != TrialState.FAIL}) == TRIALS
    killed = {trial.number for trial in trials if trial.state == TrialState.FAIL}
    assert killed == {t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs}


def study(place: Workplace) -> list[FrozenTrial]:
    """Return the trials so far, read beside the workers."""
    path = place.folder / f"studies/{STUDY}.journal"
    try:
        found = optuna.load_study(study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(path))))
    except (FileNotFoundError, KeyError):  # not begun yet
        return []
    return found.get_trials(deepcopy=False)


def finished(place: Workplace) -> dict[int, str]:
    """Trials that need not be run again: number to values."""
    done = [trial for trial in study(place) if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    return {trial.number: json.dumps(trial.params, sort_keys=True) for trial in done}


def compare(place: Workplace) -> None:
    """Two rows a model in MLflow with the same keys, a table of differences from DVC, plots without a network."""
    changed = json.loads(place.run("dvc", "params", "diff", "--json").stdout)
    assert "optimisation.learning_rate" in changed["params.yaml"]
    moved = json.loads(place.run("dvc", "metrics", "diff", "--json").stdout)
    assert any("student.c_index.value" in name for names in moved.values() for name in names)
    page = (place.folder / "plots/index.html").read_text()
    assert "<script" not in page  # which would be fetched from a network
    images = sorted((place.folder / "plots").rglob("*.svg"))
    assert images
    assert all(image.name in page for image in images)
    comment = (place.folder / "comment.md").read_text()
    for part in ("optimisation.learning_rate", "student.c_index.value", f"Gates of {NAME}", "not inferior to champion"):
        assert part in comment
    rows = json.loads(place.run("dml", "registry", "ls", "--json").stdout)
    assert [row["version"] for row in rows if row["name"] == NAME] == ["2", "1"]


def promote(place: Workplace, why: str) -> None:
    place.run("dml", "promote", NAME, "--why", why)


def refuse_a_worse_one(place: Workplace) -> None:
    """One epoch that learns next to nothing cannot be shown to be better than the champion."""
    place.set("optimisation", epochs=1, learning_rate=1e-7)
    place.set("promotion", margin=0.0)
    place.run("dvc", "repro")
    assert aliases(place) == {"champion": "2", "previous": "1", "challenger": "3"}
    done = place.run("dml", "promote", NAME, "--json", ok=False)
    assert done.returncode == 4
    assert "not inferior to champion" in done.stderr
    assert {row["gate"]: row["passed"] for row in json.loads(done.stdout)}["not inferior to champion"] == "NO"
    assert aliases(place)["champion"] == "2"


def aliases(place: Workplace) -> dict[str, str]:
    rows = json.loads(place.run("dml", "registry", "ls", "--json").stdout)
    own = [row for row in rows if row["name"] == NAME and row["aliases"]]
    return {alias: row["version"] for row in own for alias in row["aliases"].split(", ")}


def ask_over_http(place: Workplace) -> None:
    slide = a_slide(place)
    rows = [{"patient_id": "somebody", "path": str(slide)}, {"patient_id": "nobody", "path": "absent.svs"}]
    with served(place) as address:
        said = asked(address, {"dataframe_records": rows, "params": {"attention": True}})
    answers = {row["patient_id"]: row for row in said["predictions"]}
    assert answers["somebody"]["status"] == "ok", answers["somebody"]["reason"]
    assert 0 < answers["somebody"]["survival_730"] < answers["somebody"]["survival_365"] < 1
    assert {tile["slide"] for tile in json.loads(answers["somebody"]["attention"])} == {slide.stem}
    assert answers["nobody"]["status"] == "refused"


def ask_from_a_file(place: Workplace) -> None:
    question = {"dataframe_records": [{"patient_id": "somebody", "path": str(a_slide(place))}]}
    (place.folder / "question.json").write_text(json.dumps(question))
    files = ("--input-path", "question.json", "--output-path", "answer.json", "--content-type", "json")
    with_store(place).run("mlflow", "models", "predict", "-m", model(), "--env-manager", "local", *files)
    (row,) = json.loads(place.read("answer.json"))["predictions"]
    assert row["status"] == "ok"


def model() -> str:
    return f"models:/{NAME}@champion"


def a_slide(place: Workplace) -> Path:
    return sorted((place.folder / "data/raw/demo/slides").iterdir())[0]


class WithStore(Workplace):
    """Commands of MLflow itself, which must be told where the store is."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlruns/mlflow.db"}


def with_store(place: Workplace) -> WithStore:
    return WithStore(place.folder)


@contextmanager
def served(place: Workplace) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ("mlflow", "models", "serve", "-m", model(), "--env-manager", "local", "--host", "127.0.0.1")
    server = with_store(place).start(*command, "--port", str(port))
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(1200):
        try:
            with urllib.request.urlopen(address):
                return
        except urllib.error.URLError:
            assert server.poll() is None, "the server ended"
            time.sleep(0.5)
    pytest.fail("the server did not start")


def asked(address: str, question: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(address, json.dumps(question).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return dict(json.load(answer))


def commit(place: Workplace, message: str) -> None:
    place.run("git", "add", "--all")
    place.run("git", "-c", "user.name=drill", "-c", "user.email=drill@localhost", "commit", "-q", "-m", message)
