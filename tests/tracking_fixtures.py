"""A fresh tracking store in a temporary working directory."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

import dml
from dml.config.params import Params
from dml.tracking import store


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder with the default tracking store in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("PYTHONPATH", str(Path(dml.__file__).parents[1]))
    return tmp_path


@pytest.fixture
def client(workplace: Path, template_store: Path) -> MlflowClient:
    (workplace / "mlruns").mkdir()
    (workplace / "mlruns/mlflow.db").write_bytes(template_store.read_bytes())
    return store.connect()


@pytest.fixture(scope="session")
def template_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of the present schema: copying it is faster than creating one."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        store.connect()
    return folder / "mlflow.db"


@pytest.fixture
def params() -> Callable[..., Params]:
    def build(**changes: object) -> Params:
        return Params.model_validate({"cohort": "demo", "tasks": ["survival"], "folds": [0, 1], **changes})

    return build


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work on studies in an empty folder, without MLflow."""
    from dml.experiments.tuning.mlflow_recorder import Recorder

    monkeypatch.chdir(tmp_path)
    for name in ("trial", "catch_up", "finish"):
        monkeypatch.setattr(Recorder, name, lambda *arguments: None)
    return tmp_path
