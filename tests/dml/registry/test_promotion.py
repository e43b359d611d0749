"""Promotion: gates decide, aliases move together, a rollback undoes it, everything is written down."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from dml.config.params import Params
from dml.core.errors import Busy, GateFailed, InputError
from dml.core.files import only_writer, write_parquet
from dml.registry import promotion, registration, versions
from dml.tracking import store
from tests.trained_models import write_folds

Build = Callable[..., Params]
NAME = "demo-survival-student"
Register = Callable[[int, float], versions.RegisteredVersion]


@pytest.fixture
def register(client: MlflowClient, params: Build) -> Register:
    """Train, evaluate and register a student: so many folds, its risks off by some noise."""
    reports = Path("reports/demo/survival")
    for stage in ("cohort", "features"):
        path = Path(f"reports/demo/checks/{stage}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"success": True}))

    def make(folds: int, noise: float) -> versions.RegisteredVersion:
        rng = np.random.default_rng(folds)
        truth = np.random.default_rng(0)
        risk = truth.normal(size=120)
        rows = pd.DataFrame({"patient_id": [f"p{i}" for i in range(120)], "fold": np.arange(120) % 2, "site": "a"})
        rows["days"], rows["event"] = truth.exponential(np.exp(-risk) * 500), truth.random(120) < 0.8
        rows["risk"], rows["role"] = risk + noise * rng.normal(size=120), "test"
        both = pd.concat([rows.assign(model=name) for name in ("student", "teacher")])
        write_parquet(reports / "predictions.parquet", pa.Table.from_pandas(both), {"kind": "survival", "classes": []})
        value = 0.8 if noise < 1 else 0.58
        write_metrics(c_index=value, calibration_slope=1.0)
        (reports / "cards").mkdir(exist_ok=True)
        (reports / "cards/student.md").write_text("# the whole card")
        write_folds(Path("models/demo/survival/student"), "student", folds=folds)
        write_folds(Path("models/demo/survival/teacher"), "teacher", folds=folds)
        return registration.register(params(), "survival", "student")

    return make


def write_metrics(**student: float) -> None:
    """Write an evaluation in which the teacher has a C-index of 0.81."""
    entries = {"student": student, "teacher": {"c_index": 0.81}}
    content = {
        model: {name: {"value": v, "folds": [v]} for name, v in metrics.items()} for model, metrics in entries.items()
    }
    Path("reports/demo/survival/metrics.json").write_text(json.dumps(content))


def aliases() -> dict[str, str]:
    return {alias: entry.version for entry in versions.versions(NAME) for alias in entry.aliases}


def test_promote_replace_and_roll_back(register: Register, params: Build) -> None:
    register(2, 0.1)
    promotion.promote(NAME, params(), "first").enforce()
    assert aliases() == {"champion": "1"}
    register(3, 0.1)
    results = promotion.promote(NAME, params(), "better folds")
    results.enforce()
    assert [gate.name for gate in results.gates] == [
        "c_index floor",
        "calibration_slope",
        "student-teacher gap",
        "data checks",
        "model card",
        "not inferior to champion",
    ]
    assert aliases() == {"champion": "2", "previous": "1"}
    assert promotion.rollback(NAME, "slower") == ("1", "2")
    assert aliases() == {"champion": "1", "challenger": "2"}
    logged = [json.loads(line) for line in promotion.log_path().read_text().splitlines()]
    assert [(line["action"], line["champion"], line["why"]) for line in logged] == [
        ("promote", "1", "first"),
        ("promote", "2", "better folds"),
        ("rollback", "1", "slower"),
    ]
    assert versions.find(NAME, "2").tags["promote.why"] == "better folds"


def test_a_worse_model_is_refused_with_the_failed_gates(register: Register, params: Build) -> None:
    register(2, 0.1)
    promotion.promote(NAME, params()).enforce()
    register(3, 5.0)
    results = promotion.promote(NAME, params())
    failed = [gate.name for gate in results.gates if not gate.passed]
    assert failed == ["c_index floor", "student-teacher gap", "not inferior to champion"]
    with pytest.raises(GateFailed, match=r"floor: 0.580, required at least 0.600; student-teacher gap: c_index"):
        results.enforce()
    assert aliases() == {"champion": "1", "challenger": "2"}
    last = json.loads(promotion.log_path().read_text().splitlines()[-1])
    assert (last["action"], last["refused"], last["failed"]) == ("refuse", "2", failed)
    assert last["gates"]["c_index floor"] == "0.580 (required at least 0.600)"


GOOD = {"c_index": 0.8, "calibration_slope": 1.0, "c_index_old": 0.7}


@pytest.mark.parametrize(
    ("metrics", "failed"),
    [
        ({"calibration_slope": 4.0}, "calibration_slope"),
        ({"calibration_slope": None}, "calibration"),
        ({"c_index_old": 0.4}, "c_index in old"),
        ({"c_index_old": None}, "c_index in old"),
        ({"c_index": 0.65}, "student-teacher gap"),
        ({}, None),
    ],
)
def test_each_gate_refuses_by_itself(
    register: Register, params: Build, metrics: dict[str, float | None], failed: str | None
) -> None:
    register(2, 0.1)
    write_metrics(**{name: value for name, value in (GOOD | metrics).items() if value is not None})
    registration.register(params(), "survival", "student")  # the same weights, evaluated otherwise
    settings = params(evaluation={"subgroups": {"old": {"age": ["70"]}}})
    refused = [gate.name for gate in promotion.check_gates(NAME, settings).gates if not gate.passed]
    assert refused == ([failed] if failed else [])


def test_a_version_without_its_card_is_refused(register: Register, params: Build, client: MlflowClient) -> None:
    register(2, 0.1)
    (card,) = Path("mlruns/artifacts").rglob("evaluation/model_card.md")
    assert card.read_text() == "# the whole card"
    client.update_model_version(NAME, "1", description="a fine model")
    client.delete_model_version_tag(NAME, "1", "card")
    (gate,) = [gate for gate in promotion.check_gates(NAME, params()).gates if not gate.passed]
    missing = "## Input, ## Output, cards/student.md of the evaluation"
    assert (gate.name, gate.value) == ("model card", f"without {missing}")


def test_checking_the_gates_changes_nothing(register: Register, params: Build) -> None:
    register(2, 0.1)
    promotion.check_gates(NAME, params()).enforce()
    assert aliases() == {"challenger": "1"}


def test_failed_or_missing_data_checks_refuse(register: Register, params: Build) -> None:
    register(2, 0.1)
    Path("reports/demo/checks/features.json").write_text(json.dumps({"success": False}))
    Path("reports/demo/checks/cohort.json").unlink()
    with pytest.raises(GateFailed, match="cohort not run, features failed"):
        promotion.promote(NAME, params()).enforce()


def test_a_second_promotion_at_the_same_time_says_so(
    register: Register, params: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(2, 0.1)
    monkeypatch.setattr(promotion, "WAIT_S", 0.1)
    with only_writer(f"promote-{NAME}", folder=store.lock_folder()), pytest.raises(Busy):
        promotion.promote(NAME, params())


def test_a_second_promotion_through_a_server_says_who_is_at_it(
    register: Register, params: Build, monkeypatch: pytest.MonkeyPatch, client: MlflowClient
) -> None:
    register(2, 0.1)
    monkeypatch.setattr(promotion, "SETTLE_S", 0.0)
    monkeypatch.setattr(store, "database", lambda: None)
    monkeypatch.setattr(store, "address", lambda: f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    client.set_registered_model_tag(NAME, promotion.CLAIM, f"ann@lab 1 {time.time():.0f}")
    with pytest.raises(Busy, match="ann@lab is promoting it"):
        promotion.promote(NAME, params())
    client.set_registered_model_tag(NAME, promotion.CLAIM, f"ann@lab 1 {time.time() - promotion.STALE_S - 1:.0f}")
    promotion.promote(NAME, params()).enforce()  # hers was left by a process that died
    assert client.get_registered_model(NAME).tags == {}


PROMOTE = """
from dml.config.params import Params
from dml.registry import promotion
params = Params.model_validate({"cohort": "demo", "tasks": ["survival"], "folds": [0, 1]})
promotion.promote("demo-survival-student", params).enforce()
"""


@pytest.mark.slow
def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(register: Register) -> None:
    register(2, 0.1)
    started = [subprocess.Popen([sys.executable, "-c", PROMOTE], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=600)[1] for process in started]
    assert sorted(process.returncode for process in started) == [0, 1]
    (loser,) = [text for text, process in zip(errors, started, strict=True) if process.returncode]
    assert "version 1 of demo-survival-student is champion already (promoted by" in loser
    assert aliases() == {"champion": "1"}
    assert len(promotion.log_path().read_text().splitlines()) == 1


def test_an_interrupted_promotion_is_not_rolled_back(register: Register, params: Build, client: MlflowClient) -> None:
    register(2, 0.1)
    promotion.promote(NAME, params()).enforce()
    client.set_registered_model_alias(NAME, "previous", "1")  # killed before champion was moved
    with pytest.raises(InputError, match="a promotion was interrupted"):
        promotion.rollback(NAME)


def test_the_champion_is_not_promoted_again_and_a_first_one_not_rolled_back(register: Register, params: Build) -> None:
    register(2, 0.1)
    promotion.promote(NAME, params()).enforce()
    register(2, 0.1)
    with pytest.raises(InputError, match="champion already"):
        promotion.promote(NAME, params())
    with pytest.raises(InputError, match="previous"):
        promotion.rollback(NAME)
