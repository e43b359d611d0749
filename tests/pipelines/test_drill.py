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

from tests.pipelines.conftest import Workplace, commit

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("small_demo")]  # they share a finished pipeline

NAME, STUDY, TRIALS = "demo-survival-student", "demo-survival-teacher", 12
LENIENT = {
    "floors": {"c_index": 0.1},
    "calibration": {"ibs": [0.0, 1.0]},
    "max_teacher_gap": 1.0,
    "non_inferiority_margin": 1.0,
}
"""Thirty patients and three epochs decide nothing: that each gate refuses is tested in tests/dml/registry."""


@pytest.fixture
def repo(finished_demo: Workplace, tmp_path: Path) -> Workplace:
    """A committed copy of the finished small demo, in another folder, with gates that let small numbers pass."""
    repo = Workplace(tmp_path / "repo")
    shutil.copytree(finished_demo.folder, repo.folder)
    repo.set("promotion", **LENIENT)
    commit(repo, "as it was")
    return repo


def test_the_working_day(repo: Workplace) -> None:
    promote(repo, "first")
    assert aliases(repo) == {"champion": "1"}

    repo.set("optimisation", ensemble_size=1)
    repo.set("baselines", deep=[])
    repo.set("tuning", n_startup_trials=3, min_epochs_before_pruning=1)
    tune_with_a_kill_in_the_middle(repo)
    assert "learning_rate" in repo.run("dml", "tune", "apply", STUDY).stdout
    repo.run(".ci/retrain")
    compare(repo)
    repo.run("dml", "promote", NAME, "--dry-run")
    assert aliases(repo) == {"champion": "1", "challenger": "2"}
    promote(repo, "tuned")
    assert aliases(repo) == {"champion": "2", "previous": "1"}
    predict_over_http(repo)
    predict_from_a_file(repo)

    refuse_a_worse_one(repo)
    repo.run("dml", "rollback", NAME, "--why", "drill")
    assert aliases(repo) == {"champion": "1", "challenger": "2"}
    actions = [json.loads(line)["action"] for line in repo.read("mlruns/promotions.jsonl").splitlines()]
    assert actions == ["promote", "promote", "refuse", "rollback"]


def tune_with_a_kill_in_the_middle(repo: Workplace) -> None:
    command = ("dml", "tune", "teacher", "--task", "survival", "--trials", str(TRIALS), "--workers", "2")
    running = repo.start(*command)
    while len(finished(repo)) < 4:
        assert running.poll() is None, "the study ended before it could be killed"
        time.sleep(0.2)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    before = finished(repo)
    assert len(before) < TRIALS
    repo.run(*command)
    trials, after = study(repo), finished(repo)
    assert len(after) == TRIALS, [trial.state for trial in trials]
    assert after.items() >= before.items()  # nothing that was done is lost, or was done again
    assert len({json.dumps(t.params, sort_keys=True) for t in trials if t.state != TrialState.FAIL}) == TRIALS
    killed = {trial.number for trial in trials if trial.state == TrialState.FAIL}
    assert killed == {t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs}


def study(repo: Workplace) -> list[FrozenTrial]:
    """Return the trials so far, read beside the workers."""
    path = repo.folder / f"studies/{STUDY}.journal"
    try:
        loaded = optuna.load_study(study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(path))))
    except (FileNotFoundError, KeyError):  # not begun yet
        return []
    return loaded.get_trials(deepcopy=False)


def finished(repo: Workplace) -> dict[int, str]:
    """Trials that need not be run again: number to values."""
    ended = [trial for trial in study(repo) if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    return {trial.number: json.dumps(trial.params, sort_keys=True) for trial in ended}


def compare(repo: Workplace) -> None:
    """Two rows a model in MLflow with the same keys, a table of differences from DVC, plots without a network."""
    changed = json.loads(repo.run("dvc", "params", "diff", "--json").stdout)
    assert "optimisation.learning_rate" in changed["params.yaml"]
    moved = json.loads(repo.run("dvc", "metrics", "diff", "--json").stdout)
    assert any("student.c_index.value" in name for names in moved.values() for name in names)
    page = (repo.folder / "plots/index.html").read_text()
    assert "<script" not in page  # which would be fetched from a network
    images = sorted((repo.folder / "plots").rglob("*.svg"))
    assert images
    assert all(image.name in page for image in images)
    comment = (repo.folder / "comment.md").read_text()
    for part in ("optimisation.learning_rate", "student.c_index.value", f"Gates of {NAME}", "not inferior to champion"):
        assert part in comment
    rows = json.loads(repo.run("dml", "registry", "ls", "--json").stdout)
    assert [row["version"] for row in rows if row["name"] == NAME] == ["2", "1"]


def promote(repo: Workplace, why: str) -> None:
    repo.run("dml", "promote", NAME, "--why", why)


def refuse_a_worse_one(repo: Workplace) -> None:
    """One epoch that learns next to nothing cannot be shown to be better than the champion."""
    repo.set("optimisation", epochs=1, learning_rate=1e-7)
    repo.set("promotion", non_inferiority_margin=0.0)
    repo.run("dvc", "repro")
    assert aliases(repo) == {"champion": "2", "previous": "1", "challenger": "3"}
    refused = repo.run("dml", "promote", NAME, "--json", ok=False)
    assert refused.returncode == 4
    assert "not inferior to champion" in refused.stderr
    assert {row["gate"]: row["passed"] for row in json.loads(refused.stdout)}["not inferior to champion"] == "NO"
    assert aliases(repo)["champion"] == "2"


def aliases(repo: Workplace) -> dict[str, str]:
    rows = json.loads(repo.run("dml", "registry", "ls", "--json").stdout)
    versions = [row for row in rows if row["name"] == NAME and row["aliases"]]
    return {alias: row["version"] for row in versions for alias in row["aliases"].split(", ")}


def predict_over_http(repo: Workplace) -> None:
    slide = a_slide(repo)
    rows = [{"patient_id": "somebody", "path": str(slide)}, {"patient_id": "nobody", "path": "absent.svs"}]
    with served(repo) as address:
        response = post(address, {"dataframe_records": rows, "params": {"attention": True}})
    predictions = {row["patient_id"]: row for row in response["predictions"]}
    assert predictions["somebody"]["status"] == "ok", predictions["somebody"]["reason"]
    assert 0 < predictions["somebody"]["survival_730"] < predictions["somebody"]["survival_365"] < 1
    assert {tile["slide"] for tile in json.loads(predictions["somebody"]["attention"])} == {slide.stem}
    assert predictions["nobody"]["status"] == "refused"


def predict_from_a_file(repo: Workplace) -> None:
    request = {"dataframe_records": [{"patient_id": "somebody", "path": str(a_slide(repo))}]}
    (repo.folder / "request.json").write_text(json.dumps(request))
    files = ("--input-path", "request.json", "--output-path", "response.json", "--content-type", "json")
    with_store(repo).run("mlflow", "models", "predict", "-m", model(), "--env-manager", "local", *files)
    (row,) = json.loads(repo.read("response.json"))["predictions"]
    assert row["status"] == "ok"


def model() -> str:
    return f"models:/{NAME}@champion"


def a_slide(repo: Workplace) -> Path:
    return sorted((repo.folder / "data/raw/demo/slides").iterdir())[0]


class WithStore(Workplace):
    """Commands of MLflow itself, which need the address of the store."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlruns/mlflow.db"}


def with_store(repo: Workplace) -> WithStore:
    return WithStore(repo.folder)


@contextmanager
def served(repo: Workplace) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ("mlflow", "models", "serve", "-m", model(), "--env-manager", "local", "--host", "127.0.0.1")
    server = with_store(repo).start(*command, "--port", str(port))
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


def post(address: str, content: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return dict(json.load(response))
