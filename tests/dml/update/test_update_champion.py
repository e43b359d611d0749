"""A champion and the patients of another hospital: as little is changed as pays, and nothing may be forgotten."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from dml.cli.app import app
from dml.config.params import Params
from dml.core.errors import InputError
from dml.core.files import read_json, write_json, write_parquet
from dml.data.cohort_store import CohortStore
from dml.registry import promotion, registration, versions
from dml.registry.gates import RECORDED
from dml.report.build import evaluate
from dml.training.checkpoint import FoldModel
from dml.training.folds import make_fold, predict_fold, select_test_patients
from dml.training.model_store import ModelStore
from dml.training.train import train_teacher
from dml.update.ladder import STEPS, Step
from dml.update.update_champion import UPDATED_STEP, UpdateSettings, update
from tests.hospital_cohorts import write_cohort
from tests.trained_models import ENCODER, MPPS

SMALL: dict[str, Any] = {
    "tiles": {"mpps": MPPS},
    "embed": {"encoder": ENCODER},
    "model": {"width": 8, "heads": 2, "n_queries": 4, "gene_width": 8, "linear_offset": {"components": 2}},
    "optimisation": {"epochs": 6, "learning_rate": 0.01, "device": "cpu"},
    "evaluation": {"resamples": 60, "years": [1.0, 2.0]},
}


def write_splits(folder: Path, patients: int) -> None:
    rows = [
        {
            "patient_id": f"p{i}",
            "fold": fold,
            "role": "test" if i % 2 == fold else "training",
            "inner_fold": -1 if i % 2 == fold else i // 2 % 3,
            "stratum": "all",
        }
        for fold in (0, 1)
        for i in range(patients)
    ]
    write_parquet(folder / "splits.parquet", pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False))


@pytest.fixture
def champion(client: MlflowClient, params: Callable[..., Params]) -> str:
    """A trained teacher of two folds, evaluated, registered and promoted by hand."""
    folder = write_cohort("demo", 120, seed=1)
    write_splits(folder, 120)
    settings, store = params(**SMALL), CohortStore.of("demo")
    cohort, models = store.cohort(ENCODER, MPPS), ModelStore.of("demo", "survival")
    for k in settings.folds:
        fold = make_fold(cohort, store.splits(), k)
        trained = train_teacher(fold, settings, "survival")
        rows, metadata = predict_fold(trained, fold, select_test_patients(cohort, store.splits(), k), "teacher")
        models.write("teacher", k, trained, rows, metadata)
    evaluate(models.folder, store.patients(), settings.evaluation, 0, Path("reports/demo/survival"))
    for name in ("demo", "new"):
        for checks in ("cohort", "features"):
            write_json(Path(f"reports/{name}/checks/{checks}.json"), {"success": True})
    version = registration.register(settings, "survival", "teacher")
    client.set_registered_model_alias(version.name, versions.CHAMPION, version.version)
    return f"{version.name}@champion"


def settings(until: Step, **changes: Any) -> UpdateSettings:
    return UpdateSettings(until=until, **changes)


def test_a_champion_is_kept_where_nothing_changed(champion: str, params: Callable[..., Params]) -> None:
    write_cohort("new", 120, seed=5, prefix="n")
    result = update(champion, "new", params(**SMALL), settings("slope", alpha=0.01), Path("updates"))
    assert (result.ladder.step, result.challenger) == ("keep", None)
    assert read_json(Path("updates/demo-survival-teacher/new/ladder.json"))["steps"][0]["taken"]


def test_a_level_that_moved_is_recalibrated_and_passes_the_gates(champion: str, params: Callable[..., Params]) -> None:
    write_cohort("new", 160, seed=5, ratio=4.0, prefix="n")
    build = params(**SMALL)
    result = update(champion, "new", build, settings("slope"), Path("updates"))
    assert result.ladder.step in ("level", "slope")
    assert result.ladder.tests["keep"].p < 0.05
    assert result.ladder.tests["level"].gain > 0
    challenger = versions.find("demo-survival-teacher", "challenger")
    assert challenger.tags[UPDATED_STEP] == result.ladder.step
    assert [gate.name for gate in result.gates] == [
        "nothing forgotten: not inferior on demo",
        "new patients: not inferior on new",
        "data checks of new",
    ]
    assert all(gate.passed for gate in result.gates)
    checked = promotion.check_gates("demo-survival-teacher", build)
    assert {gate.name for gate in result.gates} <= {gate.name for gate in checked.gates}


def test_a_challenger_that_forgets_is_refused(champion: str, params: Callable[..., Params]) -> None:
    version = versions.resolve(champion)
    client = versions.store.connect()
    failed = {"name": "nothing forgotten", "passed": False, "value": "-0.2", "required": "above -0.05"}
    client.set_model_version_tag(version.name, version.version, f"{RECORDED}0", json.dumps(failed))
    client.set_registered_model_alias(version.name, "challenger", version.version)
    client.delete_registered_model_alias(version.name, "champion")
    results = promotion.check_gates(version.name, params(**SMALL))
    assert [gate.name for gate in results.gates if not gate.passed and gate.name.startswith("nothing")] == [
        "nothing forgotten"
    ]


@pytest.mark.parametrize("use_replay", [True, False])
def test_every_step_predicts_the_inner_patients_out_of_fold(
    champion: str, params: Callable[..., Params], use_replay: bool
) -> None:
    write_cohort("new", 80, seed=5, ratio=3.0, prefix="n")
    chosen = settings("retrain", use_replay=use_replay)
    result = update(champion, "new", params(**SMALL), chosen, Path("updates"))
    assert tuple(result.ladder.tests) == STEPS
    assert all(np.isfinite(test.score) for test in result.ladder.tests.values())
    assert len({round(test.score, 6) for test in result.ladder.tests.values()}) == len(STEPS), "each step is another"


def test_without_the_old_patients_forgetting_is_not_shown_and_not_promoted(
    champion: str, params: Callable[..., Params]
) -> None:
    write_cohort("new", 160, seed=5, ratio=4.0, prefix="n")
    Path("data/demo/splits.parquet").unlink()
    result = update(champion, "new", params(**SMALL), settings("level"), Path("updates"))
    forgotten = result.gates[0]
    assert (forgotten.passed, forgotten.value) == (False, "only 0 test patients in common")


def test_a_cohort_that_does_not_fit_is_refused(champion: str, params: Callable[..., Params]) -> None:
    with pytest.raises(InputError, match="was trained on demo"):
        update(champion, "demo", params(**SMALL), settings("level"), Path("updates"))
    write_cohort("few", 4, seed=5, prefix="n")
    with pytest.raises(InputError, match="4 patients of known outcome"):
        update(champion, "few", params(**SMALL), settings("level"), Path("updates"))


def test_a_recalibrated_version_ranks_as_the_champion(champion: str, params: Callable[..., Params]) -> None:
    write_cohort("new", 160, seed=5, ratio=4.0, prefix="n")
    result = update(champion, "new", params(**SMALL), settings("level"), Path("updates"))
    cohort = CohortStore.of("new").cohort(ENCODER, MPPS)
    before = FoldModel.load(Path("models/demo/survival/teacher/fold-0")).predict(cohort)
    after = FoldModel.load(result.folder / "models/demo/survival/teacher/fold-0").predict(cohort)
    assert np.corrcoef(before["risk"].rank(), after["risk"].rank())[0, 1] > 0.99
    assert after["survival_365"].mean() < before["survival_365"].mean() - 0.1


def test_the_command_shows_the_ladder_and_the_challenger(champion: str, params: Callable[..., Params]) -> None:
    write_cohort("new", 160, seed=5, ratio=4.0, prefix="n")
    Path("params.yaml").write_text(params(**SMALL).model_dump_json())
    result = CliRunner().invoke(app, ["update", champion, "--cohort", "new", "--until", "level", "--json"])
    assert result.exit_code == 0, result.output
    assert {row["step"]: row["taken"] for row in json.loads(result.stdout)} == {"keep": False, "level": True}
    assert versions.find("demo-survival-teacher", "challenger").tags[UPDATED_STEP] == "level"
    wrong = CliRunner().invoke(app, ["update", champion, "--cohort", "new", "--until", "tail"])
    assert "one of level, slope, head" in str(wrong.exception)
