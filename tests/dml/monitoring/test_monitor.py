"""A watched version end to end: predictions are logged without names, drift and broken promises raise the alarm."""

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from dml.cli.app import app
from dml.config.params import Params
from dml.core.errors import CheckFailed, InputError
from dml.core.files import read_json
from dml.inference.prediction_log import INPUTS, KEY, LOG_FOLDER, PredictionLog, read_log
from dml.monitoring.monitor import MonitorSettings, monitor
from dml.monitoring.monitor_page import ALARM, CHECKED, tag_version, write_results
from dml.registry import predict as prediction
from dml.registry import registration, versions
from dml.registry.watch import RegisteredFile
from tests.hospital_cohorts import risks, write_cohort, write_features
from tests.trained_models import write_folds

NAME = "demo-survival-student"
START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def registered(client: MlflowClient, params: Callable[..., Params]) -> str:
    """A student of untrained weights, registered beside the cohort that its drift is measured from."""
    write_cohort("demo", 80, seed=1)
    write_folds(Path("models/demo/survival/student"), "student")
    reports = Path("reports/demo/survival")
    reports.mkdir(parents=True)
    metrics = {"c_index": {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}}
    (reports / "metrics.json").write_text(json.dumps({"student": metrics}))
    return f"{registration.register(params(), 'survival', 'student').name}@challenger"


def log_patients(reference: str, log: Path, weeks: int, per_week: int, shift: float = 0.0, seed: int = 9) -> list[str]:
    """Predict and log new patients, some a week."""
    version, rng, ids = versions.resolve(reference), np.random.default_rng(seed), []
    writer = PredictionLog(log, version.tags["digest"])
    values = iter(risks(weeks * per_week, seed))
    for week in range(weeks):
        names = [f"new-{seed}-{week}-{i}" for i in range(per_week)]
        paths = [write_features(Path("incoming"), name, next(values), rng, shift)[0] for name in names]
        table = pd.DataFrame({"patient_id": names, "path": [str(path) for path in paths], "site": "Clinic"})
        table.to_csv("request.csv", index=False)
        request = prediction.request_table(Path("request.csv"))
        with prediction_of(version) as predict:
            writer.write(predict(request, {INPUTS: True}), request, START + timedelta(weeks=week))
        ids += names
    return ids


def prediction_of(version: versions.RegisteredVersion):  # type: ignore[no-untyped-def]
    from dml.registry.packaged_code import load_with_packaged_code

    return load_with_packaged_code(version)


def test_the_log_has_no_name_and_no_path(registered: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (path, _) = write_features(Path("incoming"), "Erika-Mustermann", 0.3, rng)
    Path("request.csv").write_text(f"patient_id,path\nErika-Mustermann,{path}\nGone,gone-Mustermann.npy\n")
    rows = prediction.predict(registered, Path("request.csv"), log=tmp_path / "log")
    assert INPUTS not in rows.columns
    assert rows["status"].tolist() == ["ok", "refused"]
    (file,) = (tmp_path / "log").rglob("*.parquet")
    assert b"Mustermann" not in file.read_bytes()
    assert "incoming" not in file.read_text(errors="ignore")
    logged = read_log(tmp_path / "log", versions.resolve(registered).tags["digest"])
    assert logged["status"].tolist() == ["ok", "refused"]
    assert logged["risk"][0] == pytest.approx(rows["risk"][0])
    assert np.mean([by_fold[0] for by_fold in logged["by_fold"][0]]) != logged["risk"][0], "each fold on its own scale"
    assert logged["tiles"][0] == 12
    assert stat.S_IMODE((tmp_path / "log" / KEY).stat().st_mode) == 0o600


def test_nothing_is_logged_unless_it_is_asked_for(registered: str, tmp_path: Path) -> None:
    (path, _) = write_features(Path("incoming"), "P1", 0.3, np.random.default_rng(0))
    prediction.predict(registered, path)
    assert not list(tmp_path.rglob(KEY))


def test_the_served_model_logs_where_the_environment_says(
    registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path, _) = write_features(Path("incoming"), "P1", 0.3, np.random.default_rng(0))
    request = pd.DataFrame({"patient_id": ["P1"], "path": [str(path)]})
    silent = versions.load(NAME, "challenger").predict(request)
    monkeypatch.setenv(LOG_FOLDER, str(tmp_path / "served"))
    answered = versions.load(NAME, "challenger").predict(request)
    pd.testing.assert_frame_equal(answered, silent)
    assert len(read_log(tmp_path / "served", versions.resolve(registered).tags["digest"])) == 1


def test_a_watched_version_is_quiet_without_drift_and_alarmed_by_it(registered: str, tmp_path: Path) -> None:
    log_patients(registered, tmp_path / "log", weeks=4, per_week=8)
    quiet = monitor(registered, tmp_path / "log", None, MonitorSettings())
    assert (quiet.alarms, quiet.patients, quiet.drift.patients) == ([], 32, (8, 8, 8, 8))
    assert {each.group for each in quiet.drift.quantities} >= {"tokens", "tissue", "scan"}
    log_patients(registered, tmp_path / "shifted", weeks=4, per_week=8, shift=2.0)
    shifted = monitor(registered, tmp_path / "shifted", None, MonitorSettings())
    (reason,) = shifted.alarms
    assert "drift since 2026-W" in reason
    assert "tokens" in reason


def test_the_same_log_gives_the_same_numbers(registered: str, tmp_path: Path) -> None:
    log_patients(registered, tmp_path / "log", weeks=2, per_week=5)
    first, again = (monitor(registered, tmp_path / "log", None, MonitorSettings()) for _ in range(2))
    assert first.drift.log_capital.tolist() == again.drift.log_capital.tolist()


def test_outcomes_that_are_not_as_predicted_raise_the_alarm(registered: str, tmp_path: Path) -> None:
    ids = log_patients(registered, tmp_path / "log", weeks=5, per_week=10)
    dead = pd.DataFrame({"patient_id": ids, "time": 5.0, "event": 1, "sex": ["m", "f"] * 25})
    dead.to_csv("outcomes.csv", index=False)
    result = monitor(registered, tmp_path / "log", Path("outcomes.csv"), MonitorSettings())
    assert "deaths, observed per expected" in " ".join(result.alarms)
    assert result.outcomes == 50
    assert {check.subgroup for check in result.checks} >= {"", "site Clinic", "sex m", "sex f"}
    pooled = next(check for check in result.checks if check.label.startswith("deaths") and not check.subgroup)
    assert pooled.low > 1.25


def test_a_first_part_of_the_log_may_be_the_reference(registered: str, tmp_path: Path) -> None:
    log_patients(registered, tmp_path / "log", weeks=8, per_week=8, shift=2.0)
    assert monitor(registered, tmp_path / "log", None, MonitorSettings()).alarms
    here = monitor(registered, tmp_path / "log", None, MonitorSettings(baseline=40))
    assert (here.alarms, sum(here.drift.patients)) == ([], 24)
    with pytest.raises(InputError, match="--baseline 20 at least"):
        monitor(registered, tmp_path / "log", None, MonitorSettings(baseline=5))


def test_the_alarm_is_an_exit_code_a_page_and_a_tag_that_stays(registered: str, tmp_path: Path) -> None:
    log_patients(registered, tmp_path / "log", weeks=4, per_week=8, shift=2.0)
    command = ["monitor", "--model", registered, "--log", str(tmp_path / "log"), "--out", "watched"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, CheckFailed)
    assert result.exception.exit_code == 3
    page = Path("watched/monitor.html").read_text()
    assert "<b>Alarm.</b> drift since 2026-W" in page
    assert "://" not in page, "it works offline"
    assert read_json(Path("watched/monitor.json"))["alarms"]
    tags = versions.resolve(registered).tags
    assert tags[ALARM].startswith("drift since")
    assert CHECKED in tags
    tag_version(versions.resolve(registered), [])
    assert ALARM in versions.resolve(registered).tags, "a person takes it away"


def test_the_page_is_written_for_a_quiet_version_too(registered: str, tmp_path: Path) -> None:
    log_patients(registered, tmp_path / "log", weeks=2, per_week=5)
    write_results(monitor(registered, tmp_path / "log", None, MonitorSettings()), tmp_path / "page")
    assert "No alarm." in (tmp_path / "page/monitor.html").read_text()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("patient_id,time\nx,5\n", "no column event"),
        ("patient_id,time,event\nx,5,1\nx,6,0\n", "two rows .rows 2, 3."),
        ("patient_id,time,event\nx,five,1\n", "time that is not a number .rows 2."),
        ("patient_id,time,event\nx,5,maybe\n", "event that is neither"),
        ("patient_id,time,event\nx,5,1\n", "none of its patients was logged"),
        ("patient_id,time,event,risk\nx,5,1,high\n", "columns named as the model's outputs: risk|none of its patients"),
    ],
)
def test_a_wrong_table_of_outcomes_is_refused(registered: str, tmp_path: Path, content: str, problem: str) -> None:
    log_patients(registered, tmp_path / "log", weeks=1, per_week=3)
    Path("outcomes.csv").write_text(content)
    with pytest.raises(InputError, match=problem):
        monitor(registered, tmp_path / "log", Path("outcomes.csv"), MonitorSettings())


def test_the_command_predicts_and_logs_and_so_does_a_watched_folder(registered: str, tmp_path: Path) -> None:
    (path, _) = write_features(Path("incoming"), "P1", 0.3, np.random.default_rng(0))
    log = tmp_path / "log"
    options = ["--model", registered, "--out", "rows.csv", "--log", str(log)]
    assert CliRunner().invoke(app, ["predict", *options, "--slides", str(path)]).exit_code == 0
    weights = versions.resolve(registered).tags["digest"]
    assert len(read_log(log, weights)) == 1
    assert INPUTS not in pd.read_csv("rows.csv").columns
    watched = RegisteredFile(versions.resolve(registered), log)
    assert INPUTS not in watched(prediction.request_table(path)).columns
    watched.close()
    assert len(read_log(log, weights)) == 2
