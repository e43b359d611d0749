"""Registration: one version per set of weights, found by alias, loaded without pickle."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles import write_folds
from mlflow import MlflowClient

from dml.config import Params
from dml.errors import InputError
from dml.ops import registry

Build = Callable[..., Params]


@pytest.fixture
def trained(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two trained and evaluated models in the working directory."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    for model in registry.MODELS:
        write_folds(Path("models/demo/survival") / model, model)
    reports = Path("reports/demo/survival")
    reports.mkdir(parents=True)
    metric = {"c_index": {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8, "folds": [0.6, 0.8]}}
    (reports / "metrics.json").write_text(json.dumps(dict.fromkeys(registry.MODELS, metric)))
    return reports


def test_registering_twice_makes_one_version(trained: Path, params: Build) -> None:
    first = registry.register(params(), "survival", "student")
    again = registry.register(params(), "survival", "student")
    assert first == again
    assert (first.name, first.version, first.aliases) == ("demo-survival-student", "1", ("challenger",))
    assert first.metrics == {"c_index": 0.7, "c_index_ci_low": 0.6, "c_index_ci_high": 0.8}


def test_other_weights_make_another_version_and_take_the_alias(trained: Path, params: Build) -> None:
    registry.register(params(), "survival", "student")
    write_folds(Path("models/demo/survival/student"), "student", folds=3)
    second = registry.register(params(), "survival", "student")
    assert (second.version, second.aliases) == ("2", ("challenger",))
    assert [entry.aliases for entry in registry.versions("demo-survival-student")] == [(), ("challenger",)]


def test_loads_by_alias_without_pickle(trained: Path, params: Build) -> None:
    import pandas as pd

    registry.register(params(), "survival", "teacher")
    model = registry.load("demo-survival-teacher", "challenger")
    said = model.predict(pd.DataFrame({"patient_id": ["a", "a"], "path": ["absent.svs", "also.parquet"]}))
    assert said["status"].tolist() == ["refused"]
    assert "absent.svs" in said["reason"][0]
    assert "also.parquet" in said["reason"][0]
    packed = {path.name for path in Path("mlruns/artifacts").rglob("*") if path.is_file()}
    assert {"weights.safetensors", "model.json", "requirements.txt", "input_example.json"} <= packed
    assert not [name for name in packed if name.endswith((".pkl", ".pickle"))]


def test_unknown_names_and_aliases_list_what_there_is(trained: Path, params: Build) -> None:
    registry.register(params(), "survival", "student")
    with pytest.raises(InputError, match="demo-survival-student"):
        registry.find("demo-survival-teacher", "champion")
    with pytest.raises(InputError, match="challenger"):
        registry.resolve("demo-survival-student@champion")
    assert registry.resolve("models:/demo-survival-student/1").version == "1"


def test_untrained_or_unevaluated_models_are_not_registered(trained: Path, params: Build) -> None:
    with pytest.raises(InputError, match="no trained fold"):
        registry.register(params(), "grade", "student")
    (trained / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match="no model student"):
        registry.register(params(), "survival", "student")
