"""The tracking store: unreachable, moved, created once."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from dml.config import Params
from dml.ops import interfaces, store, tracking


def test_unreachable_server_is_said_before_training(
    workplace: Path, params: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
        tracked = tracking.fold_run(params(), "survival", "teacher", 0)
        with pytest.raises(store.TrackingError, match="MLFLOW_TRACKING_URI"), tracked:
            pytest.fail("trained without tracking")


def test_a_file_that_is_no_database_is_said(workplace: Path) -> None:
    (workplace / "mlruns").mkdir()
    (workplace / "mlruns/mlflow.db").write_text("not a database, however long this text may get" * 100)
    with pytest.raises(store.TrackingError, match="not a database"):
        store.connect()


def test_artifacts_are_found_after_the_repository_moved(
    client: MlflowClient, workplace: Path, params: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.fold_run(params(), "survival", "teacher", 0) as run:
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


@pytest.mark.slow
def test_a_tracking_server_works_as_well_with_artifacts(
    workplace: Path, params: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = ("--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", str(workplace / "kept"))
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
            *places,
        ],
        env=os.environ | interfaces.ENVIRONMENT,
        cwd=workplace,
    )
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        client = _connected(server)
        with tracking.fold_run(params(), "survival", "teacher", 0) as run:
            Path("note.txt").write_text("hello")
            run.log_artifacts(Path("note.txt"))
            run.log_metrics({"loss": 1.0})
        assert client.get_run(run.run_id).data.metrics["loss"] == 1.0
        assert list(workplace.glob("kept/**/note.txt"))
        assert not (workplace / "mlruns").exists()
    finally:
        server.terminate()
        server.wait(timeout=30)


def _connected(server: subprocess.Popen[bytes]) -> MlflowClient:
    for _ in range(120):
        try:
            return store.connect()
        except store.TrackingError:
            assert server.poll() is None
            time.sleep(0.5)
    pytest.fail("the server did not start")
