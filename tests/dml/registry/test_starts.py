"""What a prediction or a stage does not need is not imported: MLflow alone takes as long as a prediction."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_latest_schema_revision

import dml
from dml.config.params import Params
from dml.core.files import write_json
from dml.registry import local_registry, registration, versions
from dml.tracking import store
from tests.trained_models import WIDTH, write_folds

NAME = "demo-survival-student"
HEAVY = ("mlflow", "sqlalchemy", "great_expectations", "dvc", "lifelines", "scipy", "sklearn", "matplotlib", "optuna")


def _imported(code: str, names: tuple[str, ...] = HEAVY) -> list[str]:
    """Run code in a process of its own; return which of some packages it imported."""
    script = f"import sys\n{code}\nprint('\\n'.join(name for name in {names} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.fixture
def registered(client: MlflowClient, params: Callable[..., Params]) -> versions.RegisteredVersion:
    write_folds(Path("models/demo/survival/student"), "student", mpps=(0.5,))
    write_json(Path("reports/demo/survival/metrics.json"), {"student": {"c_index": {"value": 0.7}}})
    return registration.register(params(), "survival", "student")


def test_a_feature_file_is_predicted_without_what_it_does_not_need(registered: versions.RegisteredVersion) -> None:
    np.save("s1.npy", np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float16))
    call = f"predict({registered.name + '@challenger'!r}, Path('s1.npy'))['status'].tolist()"
    code = f"from pathlib import Path\nfrom dml.registry.predict import predict\nassert {call} == ['ok']"
    assert _imported(code) == []


@pytest.mark.parametrize(
    ("stage", "without"),
    [
        ("stage", ("torch", "pandas", "mlflow", "great_expectations", "scipy")),
        ("split", ("torch", "mlflow", "great_expectations", "sklearn")),
        ("cohort", ("torch", "mlflow", "great_expectations", "sklearn")),
        ("tile", ("torch", "mlflow", "great_expectations")),
        ("train_teacher", ("mlflow", "great_expectations", "sklearn", "matplotlib", "lifelines")),
    ],
)
def test_a_stage_starts_without_what_it_does_not_need(stage: str, without: tuple[str, ...]) -> None:
    assert Path(dml.__file__).parents[1].joinpath(f"pipelines/{stage}.py").exists()
    assert _imported(f"import pipelines.{stage}", without) == []


def test_versions_read_from_the_database_are_those_that_mlflow_reads(registered: versions.RegisteredVersion) -> None:
    store.connect().set_registered_model_alias(NAME, "champion", registered.version)
    (local,) = local_registry.local_versions(NAME) or []
    (by_mlflow,) = versions._versions_by_mlflow(NAME)
    assert local.aliases == ("challenger", "champion")
    assert local.folder is not None
    assert (local.folder / "artifacts/folds/fold-0/model.json").exists()
    fields = ("name", "version", "aliases", "tags", "run_id", "description")
    assert [getattr(local, name) for name in fields] == [getattr(by_mlflow, name) for name in fields]


def test_a_deleted_version_is_none(registered: versions.RegisteredVersion) -> None:
    store.connect().delete_model_version(NAME, registered.version)
    assert local_registry.local_versions(NAME) == []


def test_the_schema_is_that_of_the_installed_mlflow() -> None:
    assert _get_latest_schema_revision() == local_registry.SCHEMA


def test_another_schema_is_left_to_mlflow(
    registered: versions.RegisteredVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_registry, "SCHEMA", "an older one")
    assert local_registry.local_versions(NAME) is None
    assert versions.find(NAME, "challenger").version == registered.version


@pytest.mark.parametrize(
    "code",
    [
        "from dml.registry.versions import load; load('{name}', 'challenger')",
        "from dml.registry.packaging import packed_predictions; packed_predictions('models:/{name}/1')",
        "from dml.registry.packaging import packed_reference; packed_reference('models:/{name}/1')",
    ],
)
def test_a_process_that_has_not_opened_the_store_reads_ours(registered: versions.RegisteredVersion, code: str) -> None:
    """And does not create MLflow's default database in the working directory."""
    subprocess.run(
        [sys.executable, "-c", code.format(name=registered.name)], capture_output=True, text=True, check=True
    )
    assert not Path("mlflow.db").exists()
