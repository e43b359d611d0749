"""The tracking store: unreachable, moved, created once."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from dml.cli import ui_servers
from dml.config.params import Params
from dml.core.errors import TrackingError
from dml.core.files import write_json
from dml.registry import predict as prediction
from dml.registry import promotion, registration, versions
from dml.tracking import store
from dml.tracking.fold_run import fold_run
from tests.trained_models import WIDTH, write_folds


def test_an_unreachable_server_is_an_error_before_training(
    workplace: Path, params: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
        tracked = fold_run(params(), "survival", "teacher", 0)
        with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI"), tracked:
            pytest.fail("trained without tracking")


def test_a_file_that_is_no_database_is_an_error(workplace: Path) -> None:
    (workplace / "mlruns").mkdir()
    (workplace / "mlruns/mlflow.db").write_text("not a database, however long this text may get" * 100)
    with pytest.raises(TrackingError, match="not a database"):
        store.connect()


def test_artifacts_are_found_after_the_repository_moved(
    client: MlflowClient, workplace: Path, params: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fold_run(params(), "survival", "teacher", 0) as run:
        Path("note.txt").write_text("hello")
        run.log_artifacts(Path("note.txt"))
    moved = workplace / "elsewhere"
    moved.mkdir()
    shutil.move(workplace / "mlruns", moved / "mlruns")
    monkeypatch.chdir(moved)
    client = store.connect()
    assert Path(client.download_artifacts(run.run_id, "note.txt")).read_text() == "hello"
    experiment = client.get_experiment_by_name("demo-survival")
    assert experiment is not None
    assert experiment.artifact_location == str(moved / "mlruns/artifacts/demo-survival")


def test_an_experiment_is_created_once(client: MlflowClient) -> None:
    assert store.experiment(client, "demo-grade") == store.experiment(client, "demo-grade")


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("./mlruns", "not a server"),
        ("file:///tmp/mlruns", "not a server"),
        ("databricks", "not a server"),
        ("databricks://profile", "not a server"),
        ("sqlit:///mlruns/mlflow.db", "not a server"),
        ("sqlite://mlruns/mlflow.db", "not a server"),
        ("sqlite:///mlrnus/mlflow.db", "folder .*mlrnus does not exist"),
        ("postgresql://nobody:secret@127.0.0.1:1/x", "postgresql://nobody:\\*\\*\\*@"),
    ],
)
def test_an_address_that_is_no_store_is_an_error_with_a_remedy(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, address: str, problem: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(TrackingError, match=f"{problem}.*unset it to use {store.DEFAULT}") as error:
        store.connect()
    assert "secret" not in str(error.value)
    assert error.value.exit_code == 6


def test_a_mistyped_database_is_no_empty_registry_but_may_be_begun_by_training(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/typo.db")
    with pytest.raises(TrackingError, match=r"typo\.db does not exist"):
        versions.names()
    assert not (workplace / "typo.db").exists()
    store.connect()
    assert "typo.db does not exist yet and is created" in caplog.text
    assert versions.names() == []


def test_an_experiment_deleted_in_the_pages_is_an_error_with_the_command(
    client: MlflowClient, params: Callable[..., Params], workplace: Path
) -> None:
    identity = store.experiment(client, "demo-survival")
    client.delete_experiment(identity)
    tracked = fold_run(params(), "survival", "teacher", 0)
    with pytest.raises(TrackingError, match="demo-survival was deleted") as error, tracked:
        pytest.fail("trained without tracking")
    (command,) = re.findall(r"mlflow experiments restore --experiment-id \d+", str(error.value))
    environment = os.environ | {"MLFLOW_TRACKING_URI": store.address()}
    subprocess.run([sys.executable, "-m", *command.split()], check=True, env=environment, capture_output=True)
    assert store.experiment(client, "demo-survival") == identity


@contextmanager
def run_server(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a tracking server that stores artifacts in ``stored``; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    places = ("--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", str(folder / "stored"))
    words = ("server", "--host", "127.0.0.1", "--port", port, "--workers", "1", *places, *options)
    environment = os.environ | ui_servers.ENVIRONMENT
    process = subprocess.Popen([sys.executable, "-m", "mlflow", *words], env=environment, cwd=folder)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def server(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """Start a tracking server and make it the store."""
    with run_server(workplace) as (address, process):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield _connected(process)


@pytest.mark.slow
def test_a_server_that_does_not_answer_to_our_name_for_it_is_an_error(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_server(workplace, "--allowed-hosts", "mlflow.example.org") as (address, process):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(TrackingError, match=f"to the name {address[7:]}: add it to MLFLOW_SERVER_ALLOWED_HOSTS"):
            _connected(process)


@pytest.mark.slow
def test_a_tracking_server_works_as_well_with_artifacts_and_registry(
    server: MlflowClient, workplace: Path, params: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fold_run(params(), "survival", "student", 0) as run:
        Path("note.txt").write_text("hello")
        run.log_artifacts(Path("note.txt"))
        run.log_metrics({"loss": 1.0})
    assert server.get_run(run.run_id).data.metrics["loss"] == 1.0
    assert list(workplace.glob("stored/**/note.txt"))

    write_folds(Path("models/demo/survival/student"), "student", mpps=(0.5,))
    metrics = {name: {"value": 0.8} for name in ("c_index", "calibration_slope")}
    write_json(Path("reports/demo/survival/metrics.json"), {"student": metrics, "teacher": metrics})
    write_folds(Path("models/demo/survival/teacher"), "teacher", mpps=(0.5,))
    (workplace / "reports/demo/survival/cards").mkdir()
    (workplace / "reports/demo/survival/cards/student.md").write_text("# card")
    for check in ("cohort", "features"):
        write_json(Path(f"reports/demo/checks/{check}.json"), {"success": True})
    name = registration.register(params(), "survival", "student").name
    monkeypatch.setattr(promotion, "SETTLE_S", 0.0)
    promotion.promote(name, params()).enforce()
    np.save("s1.npy", np.ones((5, WIDTH), np.float16))
    assert prediction.predict(f"{name}@champion", Path("s1.npy"))["status"].tolist() == ["ok"]
    assert not (workplace / "mlruns/mlflow.db").exists()


def _connected(server: subprocess.Popen[bytes]) -> MlflowClient:
    for _ in range(600):
        try:
            return store.connect()
        except TrackingError as error:
            if "refused" not in str(error):
                raise
            assert server.poll() is None
            time.sleep(0.5)
    pytest.fail("the server did not start")
