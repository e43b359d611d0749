"""Registration: one version per set of weights, addressed by alias, loaded without pickle."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from dml.cli.result_rows import registered_rows
from dml.config.params import Params
from dml.core.errors import InputError
from dml.registry import registration, versions
from dml.tracking import store
from tests.trained_models import write_folds

Build = Callable[..., Params]


@pytest.fixture
def trained(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two trained and evaluated models in the working directory."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    for model in registration.REGISTERED:
        write_folds(Path("models/demo/survival") / model, model)
    reports = Path("reports/demo/survival")
    reports.mkdir(parents=True)
    metric = {"c_index": {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8, "folds": [0.6, 0.8]}}
    (reports / "metrics.json").write_text(json.dumps(dict.fromkeys(registration.REGISTERED, metric)))
    return reports


def test_registering_twice_makes_one_version(trained: Path, params: Build) -> None:
    first = registration.register(params(), "survival", "student")
    again = registration.register(params(), "survival", "student")
    assert first == again
    assert (first.name, first.version, first.aliases) == ("demo-survival-student", "1", ("challenger",))
    assert first.metrics == {"c_index": 0.7, "c_index_ci_low": 0.6, "c_index_ci_high": 0.8}


def test_a_list_for_machines_has_every_metric_and_whole_hashes(trained: Path, params: Build) -> None:
    teacher, student = (registration.register(params(), "survival", model) for model in registration.REGISTERED)
    brief, _ = registered_rows()
    assert (brief["name"], brief["metric"]) == ("demo-survival-student", "Harrell C 0.700")
    row, of_teacher = registered_rows(whole=True)
    assert row["metrics"] == student.metrics
    assert row["teacher"] == of_teacher["weights"] == teacher.tags["digest"]
    assert of_teacher["teacher"] is None
    assert row["run"].startswith(brief["run"])
    assert len(brief["run"]) < len(row["run"])


def test_other_weights_make_another_version_and_take_the_alias(trained: Path, params: Build) -> None:
    registration.register(params(), "survival", "student")
    write_folds(Path("models/demo/survival/student"), "student", folds=3)
    second = registration.register(params(), "survival", "student")
    assert (second.version, second.aliases) == ("2", ("challenger",))
    assert [entry.aliases for entry in versions.versions("demo-survival-student")] == [(), ("challenger",)]


def test_loads_by_alias_without_pickle(trained: Path, params: Build) -> None:
    registration.register(params(), "survival", "teacher")
    model = versions.load("demo-survival-teacher", "challenger")
    predictions = model.predict(pd.DataFrame({"patient_id": ["a", "a"], "path": ["absent.svs", "also.parquet"]}))
    assert predictions["status"].tolist() == ["refused"]
    assert "absent.svs" in predictions["reason"][0]
    assert "also.parquet" in predictions["reason"][0]
    packed = {path.name for path in Path("mlruns/artifacts").rglob("*") if path.is_file()}
    assert {"weights.safetensors", "model.json", "requirements.txt", "input_example.json"} <= packed
    assert not [name for name in packed if name.endswith((".pkl", ".pickle"))]


def test_a_registered_model_loads_after_the_repository_moved(
    trained: Path, params: Build, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = registration.register(params(), "survival", "student").name
    (workplace / "elsewhere").mkdir()
    shutil.move(workplace / "mlruns", workplace / "elsewhere/mlruns")
    monkeypatch.chdir(workplace / "elsewhere")
    store.connect()
    with closing(
        sqlite3.connect("mlruns/mlflow.db")
    ) as connection:  # the pinned version has no other column with a path
        assert not [line for line in connection.iterdump() if f"{workplace}/mlruns" in line]
    predictions = versions.load(name, "challenger").predict(pd.DataFrame({"patient_id": ["a"], "path": ["absent.svs"]}))
    assert predictions["status"].tolist() == ["refused"]


def test_a_version_carries_its_card(trained: Path, params: Build, client: MlflowClient) -> None:
    entry = registration.register(params(), "survival", "teacher")
    text = client.get_model_version(entry.name, entry.version).description
    for part in (
        "survival_365",
        "log2_tpm",
        "0.5 and 1 microns per pixel",
        "Harrell C 0.700 (0.600 to 0.800)",
        "2 folds",
    ):
        assert part in text


@pytest.mark.slow
def test_mlflow_serves_a_registered_model_over_http(trained: Path, params: Build, workplace: Path) -> None:
    name = registration.register(params(), "survival", "student").name
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("models", "serve", "-m", f"models:/{name}@challenger", "--env-manager", "local", "--port", str(port))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # its own code must do
    environment["MLFLOW_TRACKING_URI"] = store.address()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    # a session of its own: the server's workers end with it
    server = subprocess.Popen([sys.executable, "-m", "mlflow", *words], env=environment, start_new_session=True)
    try:
        request = {"dataframe_records": [{"patient_id": "a", "path": "absent.svs"}]}
        (row,) = _post(f"http://127.0.0.1:{port}/invocations", request, server)["predictions"]
        assert (row["patient_id"], row["status"]) == ("a", "refused")
        assert "absent.svs" in row["reason"]
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _post(address: str, content: dict[str, Any], server: subprocess.Popen[bytes]) -> dict[str, Any]:
    request = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    for _ in range(600):
        try:
            with urllib.request.urlopen(request) as answer:
                return dict(json.load(answer))
        except urllib.error.URLError:
            assert server.poll() is None
            time.sleep(0.5)
    pytest.fail("the server did not start")


def test_unknown_names_and_aliases_list_what_there_is(trained: Path, params: Build) -> None:
    registration.register(params(), "survival", "student")
    with pytest.raises(InputError, match="demo-survival-student"):
        versions.find("demo-survival-teacher", "champion")
    with pytest.raises(InputError, match="challenger"):
        versions.resolve("demo-survival-student@champion")
    assert versions.resolve("models:/demo-survival-student/1").version == "1"


def test_untrained_or_unevaluated_models_are_not_registered(trained: Path, params: Build) -> None:
    with pytest.raises(InputError, match="no trained fold"):
        registration.register(params(), "grade", "student")
    (trained / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match="no model student"):
        registration.register(params(), "survival", "student")
