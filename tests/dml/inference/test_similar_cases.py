"""Similar cases: near is near, the patient itself, duplicates and the same site are left out, outcomes are counted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from dml.core.errors import InputError
from dml.core.files import digest
from dml.core.types import Cohort
from dml.inference.ensemble import Ensemble
from dml.inference.predictor import SIMILAR, Predictor
from dml.inference.similar_cases import CaseFinder, CaseQuery, SimilarCases, as_json, summarise_outcomes
from dml.training.case_bank import CaseBank
from dml.training.train import distill_student, train_teacher
from dml.training.training_result import TrainingResult
from tests.synthetic import PARAMS, change, cohort, fold, splits

QUICK = change(PARAMS, optimisation={"epochs": 4, "ensemble_size": 3})
DATA = cohort(90)


@pytest.fixture(scope="module", params=["survival", "grade"])
def trained(request: pytest.FixtureRequest) -> TrainingResult:
    return train_teacher(fold(DATA), QUICK, request.param)


@pytest.fixture(scope="module")
def finder(trained: TrainingResult) -> CaseFinder:
    return CaseFinder(Ensemble((trained.model,)), [trained.case_bank])


def patient(index: int, site: str | None = None, name: str | None = None) -> Cohort:
    case = DATA.cases[index]
    return replace(
        DATA, cases=(replace(case, site=case.site if site is None else site, patient_id=name or case.patient_id),)
    )


def learning_index() -> int:
    """Number of a patient that a member was validated on."""
    known = set(fold(DATA).inner_fold_of)
    return next(i for i, case in enumerate(DATA.cases) if case.patient_id in known)


def test_the_bank_has_each_validation_patient_once_and_no_name(trained: TrainingResult) -> None:
    bank, known = trained.case_bank, sorted(fold(DATA).inner_fold_of)
    assert sorted(bank.patients["patient_hash"]) == sorted(digest(name) for name in known)
    text = bank.patients.to_json()
    assert not any(name in text for name in known)
    assert {branch: len(tokens) for branch, tokens in bank.tokens.items()} == dict.fromkeys(
        ("tumor", "tme"), len(known)
    )


def test_no_test_patient_is_in_the_bank(trained: TrainingResult) -> None:
    tested = splits(DATA).query("fold == 0 and role == 'test'")["patient_id"]
    assert not set(trained.case_bank.patients["patient_hash"]) & {digest(name) for name in tested}


def test_saved_and_loaded_it_is_the_same(trained: TrainingResult, tmp_path: Path) -> None:
    trained.case_bank.save(tmp_path / "bank.parquet")
    again = CaseBank.load(tmp_path / "bank.parquet")
    pd.testing.assert_frame_equal(again.patients, trained.case_bank.patients, check_dtype=False)
    for branch, tokens in trained.case_bank.tokens.items():
        np.testing.assert_allclose(again.tokens[branch], tokens, atol=2e-3, rtol=2e-3)
    assert again.scales == trained.case_bank.scales


def test_the_patient_itself_is_left_out(finder: CaseFinder) -> None:
    asked = patient(learning_index())
    found = finder.find(asked, CaseQuery(k=100, same_site=True))
    assert found.excluded["same patient"] == 1
    assert digest(asked.cases[0].patient_id) not in set(found.neighbours["patient_hash"])


def test_the_same_tissue_under_another_name_is_a_near_duplicate(finder: CaseFinder) -> None:
    found = finder.find(patient(learning_index(), name="somebody else"), CaseQuery(k=100, same_site=True))
    assert found.excluded == {"same patient": 0, "near duplicate": 1, "same site": 0}


def test_cases_of_the_same_site_are_left_out_unless_asked_for(finder: CaseFinder) -> None:
    index = learning_index()
    site = DATA.cases[index].site
    without = finder.find(patient(index), CaseQuery(k=200))
    everywhere = finder.find(patient(index), CaseQuery(k=200, same_site=True))
    assert site not in set(without.neighbours["site"])
    assert len(everywhere.neighbours) == len(without.neighbours) + without.excluded["same site"]
    assert without.excluded["same site"] > 0
    assert finder.find(patient(index, site=""), CaseQuery(k=200)).excluded["same site"] == 0


def test_cases_are_sorted_by_the_distance_that_was_asked_for(finder: CaseFinder) -> None:
    for space in ("tumor", "tme", "both"):
        rows = finder.find(patient(0), CaseQuery(k=10, space=space, same_site=True)).neighbours
        assert len(rows) == 10
        assert rows["distance"].is_monotonic_increasing
        np.testing.assert_array_equal(rows["distance"], rows[f"distance_{space}"])
    both = np.sqrt((rows["distance_tumor"] ** 2 + rows["distance_tme"] ** 2) / 2)
    np.testing.assert_allclose(rows["distance_both"], both)


def test_distances_are_those_of_the_member_that_did_not_train_on_the_case(trained: TrainingResult) -> None:
    """Against a computation by hand, of one case."""
    model, bank = trained.model, trained.case_bank
    asked = patient(0, name="new")
    rows = CaseFinder(Ensemble((model,)), [bank]).find(asked, CaseQuery(k=500, same_site=True)).neighbours
    at = int(bank.patients.index[bank.patients["patient_hash"] == rows["patient_hash"][0]][0])
    member = int(bank.patients["member"][at])
    from dml.training.case_bank import embed

    token = embed(model, member, [model.reader(asked)(asked.cases[0])])["tumor"][0]
    apart = np.linalg.norm(bank.tokens["tumor"][at] - token) / bank.scales["tumor"][member]
    assert rows["distance_tumor"][0] == pytest.approx(apart, rel=1e-5)


def test_an_unknown_space_is_refused(finder: CaseFinder) -> None:
    with pytest.raises(InputError, match=r"no space 'stroma'.*There are: tumor, tme, both"):
        finder.find(patient(0), CaseQuery(space="stroma"))


def test_the_outcomes_of_the_cases_are_those_of_lifelines_and_of_a_count(
    finder: CaseFinder, trained: TrainingResult
) -> None:
    ensemble = Ensemble((trained.model,))
    found = finder.find(patient(0), CaseQuery(k=30, same_site=True))
    outcomes = summarise_outcomes(found, ensemble)
    if trained.model.spec.preprocessor.task.kind == "survival":
        fitted = KaplanMeierFitter().fit(found.neighbours["days"], found.neighbours["event"].astype(bool))
        assert outcomes["survival_365"] == pytest.approx(float(fitted.predict(365)))
        assert outcomes["survival_365_low"] <= outcomes["survival_365"] <= outcomes["survival_365_high"]
        assert outcomes["events"] == int(found.neighbours["event"].sum())
    else:
        labels = [json.loads(text)["grade"] for text in found.neighbours["labels"]]
        assert outcomes["high"]["share"] == labels.count("high") / 30
        assert outcomes["low"]["share"] + outcomes["high"]["share"] == pytest.approx(1)
        assert outcomes["high"]["low"] < outcomes["high"]["share"] < outcomes["high"]["high"]
    assert outcomes["n"] == 30


def test_nothing_is_said_of_times_after_the_last_follow_up(finder: CaseFinder, trained: TrainingResult) -> None:
    if trained.model.spec.preprocessor.task.kind != "survival":
        pytest.skip("of survival")
    found = finder.find(patient(0), CaseQuery(k=5, same_site=True))
    short = replace(found, neighbours=found.neighbours.assign(days=100.0, event=False))
    assert summarise_outcomes(short, Ensemble((trained.model,)))["survival_365"] is None
    nobody: SimilarCases = replace(found, neighbours=found.neighbours.assign(days=None))
    assert summarise_outcomes(nobody, Ensemble((trained.model,))) == {"n": 0}


def test_neighbours_of_a_trained_model_share_the_outcome_more_often_than_chance() -> None:
    """Patients that no member has seen: grade is in the tumor genes, so neighbours in the teacher's space share it."""
    result = train_teacher(fold(DATA), change(PARAMS, optimisation={"epochs": 12, "ensemble_size": 3}), "grade")
    finder = CaseFinder(Ensemble((result.model,)), [result.case_bank])
    tested = splits(DATA).query("fold == 0 and role == 'test'")["patient_id"].tolist()
    shares, chance = [], []
    for index, case in enumerate(DATA.cases):
        if case.patient_id in tested:
            rows = finder.find(patient(index), CaseQuery(k=10, same_site=True)).neighbours
            shares.append(np.mean([json.loads(text)["grade"] == case.labels["grade"] for text in rows["labels"]]))
            bank = [json.loads(text)["grade"] for text in result.case_bank.patients["labels"]]
            chance.append(np.mean([label == case.labels["grade"] for label in bank]))
    assert np.mean(shares) > np.mean(chance) + 0.1


def test_a_prediction_may_have_the_cases_beside_it(tmp_path: Path) -> None:
    student = distill_student(fold(DATA), QUICK, "survival", None)
    ensemble = Ensemble((student.model,))
    predictor = Predictor(ensemble, finder=CaseFinder(ensemble, [student.case_bank]))
    absent = pd.DataFrame({"patient_id": ["a"], "path": ["absent.svs"]})
    assert predictor(absent, similar=3)[SIMILAR].tolist() == [None]
    with pytest.raises(InputError, match="no case bank"):
        Predictor(ensemble)(absent, similar=3)
    text = as_json(CaseFinder(ensemble, [student.case_bank]).find(patient(0), CaseQuery(k=3)), ensemble)
    assert len(json.loads(text)["cases"]) == 3
