"""Similar patients through a registered version and through a folder of fold models: the same answer, and no names."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from dml.case_bank.build_bank import build_bank
from dml.cli.app import app
from dml.config.params import Params
from dml.core.errors import CheckFailed, InputError
from dml.core.types import Cohort, Mpp
from dml.inference.ensemble import Ensemble
from dml.inference.similar_patients import require_bank
from dml.registry import predict as prediction
from dml.registry import registration, versions
from dml.registry.similar import find_similar
from tests.trained_models import cohort, write_folds

Build = Callable[..., Params]
NAME = "demo-survival-student@challenger"
FOLDER = "models/demo/survival/student"


def learning_patients() -> Cohort:
    return cohort(mpps=(0.5,))


@pytest.fixture
def version(client: MlflowClient, params: Build) -> None:
    """A registered student with its bank, and a feature file that is the first learning patient's."""
    folder, patients = write_folds(Path(FOLDER), "student", mpps=(0.5,)), learning_patients()
    reports = Path("reports/demo/survival")
    bank = build_bank(Ensemble.load(folder).folds, patients, [{}, {}], lambda patient: b"jpeg")
    bank.save(reports / "case_bank/student", {})
    (reports / "metrics.json").write_text(json.dumps({"student": {"c_index": {"value": 0.7}}}))
    registration.register(params(), "survival", "student")
    np.save("p0.npy", patients.cases[0].bags[Mpp(0.5)].tokens.numpy())


def test_a_registered_version_and_its_folder_answer_alike(version: None) -> None:
    registered, local = (find_similar(model, Path("p0.npy"), k=5)[0] for model in (NAME, FOLDER))
    assert registered.similar == local.similar
    assert registered.similar is not None
    content = registered.similar
    assert list(content["spaces"]) == ["both", "tumor", "tme"]
    assert content["excluded"] == {"patient": 1, "near_duplicates": 0, "same_site": 23}, "all of hospital a"
    assert content["site"] == "a", "known of a patient who is a case"
    allowed = find_similar(NAME, Path("p0.npy"), k=5, same_site=True)[0].similar
    assert allowed is not None
    near = allowed["spaces"]["both"]["neighbours"]
    assert [row["distance"] for row in near] == sorted(row["distance"] for row in near)
    assert len(near) == 5
    assert allowed["spaces"]["both"]["outcomes"]["n"] == 5
    assert "p0" not in json.dumps(allowed)
    assert "thumbnail" not in near[0]


def test_the_served_model_answers_with_similar_patients(version: None, monkeypatch: pytest.MonkeyPatch) -> None:
    served = versions.load("demo-survival-student", "challenger")
    request = pd.DataFrame({"patient_id": ["somebody"], "path": ["p0.npy"], "site": ["b"]})
    (text,) = served.predict(request, params={"similar": 4})["similar"]
    content = json.loads(text)
    assert content["k"] == 4
    assert content["excluded"]["same_site"] == 0, "nobody is of hospital b"
    assert content["site"] == "b"
    assert "similar" not in served.predict(request)


def test_similar_patients_go_to_a_file_for_each_patient(version: None) -> None:
    arguments = ["predict", "--model", NAME, "--slides", "p0.npy", "--out", "rows.csv", "--similar", "like", "-k", "3"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert "similar" not in pd.read_csv("rows.csv").columns
    assert json.loads(Path("like/p0.json").read_text())["k"] == 3


def test_the_command_shows_neighbours_beside_the_model(version: None) -> None:
    arguments = ["similar", "--model", FOLDER, "--slides", "p0.npy", "-k", "4", "--same-site", "--space", "tumor"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "outcomes of 4 neighbours" in result.output
    shown = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert shown[0]["similar"]["k"] == 4
    assert {"risk", "survival_365"} <= set(shown[0])
    assert CliRunner().invoke(app, [*arguments, "--space", "stroma"]).exit_code != 0


def test_the_site_is_given_or_of_a_barcode() -> None:
    table = pd.DataFrame({"patient_id": ["TCGA-02-0001", "P1", "P2"], "path": "x", "site": [None, None, "b"]})
    assert prediction.add_sites(table, None)["site"].tolist() == ["02", None, "b"]
    assert prediction.add_sites(table, "c")["site"].tolist() == ["c", "c", "b"]


def test_a_model_without_bank_is_refused_with_a_remedy(client: MlflowClient, params: Build) -> None:
    write_folds(Path(FOLDER), "student", mpps=(0.5,))
    np.save("p0.npy", np.zeros((3, 8), np.float16))
    with pytest.raises(InputError, match=r"student, survival: no case bank.*case_bank@survival.*register@survival"):
        find_similar(FOLDER, Path("p0.npy"))


def test_a_version_of_before_the_bank_says_how_to_get_one(client: MlflowClient, params: Build) -> None:
    write_folds(Path(FOLDER), "student", mpps=(0.5,))
    reports = Path("reports/demo/survival")
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "metrics.json").write_text('{"student": {"c_index": {"value": 0.7}}}')
    shutil.rmtree(reports / "case_bank", ignore_errors=True)
    registration.register(params(), "survival", "student")
    np.save("p0.npy", np.zeros((3, 8), np.float16))
    arguments = ["similar", "--model", "demo-survival-student@challenger", "--slides", "p0.npy"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InputError)
    assert all(stage in str(result.exception) for stage in ("case_bank@survival", "register@survival"))


def test_only_teacher_and_student_can_have_a_bank(tmp_path: Path) -> None:
    folder = write_folds(tmp_path / "abmil", "abmil")
    with pytest.raises(InputError, match="Only teacher and student have one"):
        require_bank(None, Ensemble.load(folder).spec)


def test_unreadable_slides_are_no_patients(version: None) -> None:
    np.save("bad.npy", np.zeros((3, 5), np.float16))
    with pytest.raises(CheckFailed, match="no patient could be compared"):
        find_similar(FOLDER, Path("bad.npy"))
