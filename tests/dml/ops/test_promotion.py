"""Promotion: gates decide, aliases move together, a rollback undoes it, everything is written down."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from dml.config import Params
from dml.errors import Busy, GateFailed, InputError
from dml.files import only_writer, write_parquet
from dml.ops import promotion, registry, store
from tests.dml.ops.bundles import write_folds

Build = Callable[..., Params]
NAME = "demo-survival-student"
Register = Callable[[int, float], registry.Entry]


@pytest.fixture
def register(client: MlflowClient, params: Build) -> Register:
    """Train, evaluate and register a student: as many folds as asked for, its risks off by some noise."""
    reports = Path("reports/demo/survival")
    for stage in ("cohort", "features"):
        path = Path(f"reports/demo/checks/{stage}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"success": True}))

    def make(folds: int, noise: float) -> registry.Entry:
        rng = np.random.default_rng(folds)
        truth = np.random.default_rng(0)
        risk = truth.normal(size=120)
        rows = pd.DataFrame({"patient_id": [f"p{i}" for i in range(120)], "fold": np.arange(120) % 2, "site": "a"})
        rows["days"], rows["event"] = truth.exponential(np.exp(-risk) * 500), truth.random(120) < 0.8
        rows["risk"], rows["role"] = risk + noise * rng.normal(size=120), "test"
        both = pd.concat([rows.assign(model=name) for name in ("student", "teacher")])
        write_parquet(reports / "predictions.parquet", pa.Table.from_pandas(both), {"kind": "survival", "classes": []})
        value = 0.8 if noise < 1 else 0.58
        metric = {"c_index": {"value": value, "ci_low": 0.5, "ci_high": 0.9, "folds": [value] * folds}}
        (reports / "metrics.json").write_text(json.dumps({"student": metric}))
        write_folds(Path("models/demo/survival/student"), "student", folds=folds)
        return registry.register(params(), "survival", "student")

    return make


def aliases() -> dict[str, str]:
    return {alias: entry.version for entry in registry.versions(NAME) for alias in entry.aliases}


def test_promote_replace_and_roll_back(register: Register, params: Build) -> None:
    register(2, 0.1)
    promotion.promote(NAME, params(), "first").enforce()
    assert aliases() == {"champion": "1"}
    register(3, 0.1)
    verdict = promotion.promote(NAME, params(), "better folds")
    verdict.enforce()
    assert [gate.name for gate in verdict.gates] == ["c_index floor", "data checks", "not inferior to champion"]
    assert aliases() == {"champion": "2", "previous": "1"}
    assert promotion.rollback(NAME, "slower") == ("1", "2")
    assert aliases() == {"champion": "1", "challenger": "2"}
    logged = [json.loads(line) for line in promotion.log_path().read_text().splitlines()]
    assert [(line["action"], line["champion"], line["why"]) for line in logged] == [
        ("promote", "1", "first"),
        ("promote", "2", "better folds"),
        ("rollback", "1", "slower"),
    ]
    assert registry.find(NAME, "2").tags["promote.why"] == "better folds"


def test_a_worse_model_is_refused_with_the_failed_gates(register: Register, params: Build) -> None:
    register(2, 0.1)
    promotion.promote(NAME, params()).enforce()
    register(3, 5.0)
    verdict = promotion.promote(NAME, params())
    failed = [gate.name for gate in verdict.gates if not gate.passed]
    assert failed == ["c_index floor", "not inferior to champion"]
    with pytest.raises(GateFailed, match=r"c_index floor: 0.580, wanted at least 0.600; not inferior"):
        verdict.enforce()
    assert aliases() == {"champion": "1", "challenger": "2"}


def test_judging_alone_changes_nothing(register: Register, params: Build) -> None:
    register(2, 0.1)
    promotion.judge(NAME, params()).enforce()
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


def test_the_champion_is_not_promoted_again_and_a_first_one_not_rolled_back(register: Register, params: Build) -> None:
    register(2, 0.1)
    promotion.promote(NAME, params()).enforce()
    register(2, 0.1)
    with pytest.raises(InputError, match="champion already"):
        promotion.promote(NAME, params())
    with pytest.raises(InputError, match="previous"):
        promotion.rollback(NAME)
