"""Tasks: targets of a patient, columns of predictions, and what is wrong with them."""

import numpy as np
import pandas as pd
import pytest

from dml.core.tasks import ClassificationTask, RegressionTask, SurvivalTask, Task, horizon_columns, make_task, task_of
from dml.core.types import Case, Survival

CASE = Case("P1", "A", {}, survival=Survival(10.0, True), labels={"grade": "G2"})


def test_survival_and_a_label_are_told_apart_by_name() -> None:
    survival, grade = make_task("survival", {}), make_task("grade", {"grade": ["G2", "G3"]})
    assert survival.target(CASE) == Survival(10.0, True)
    assert survival.target_values(CASE) == {"days": 10.0, "event": True}
    assert grade.target(CASE) == "G2"
    assert grade.target_values(CASE) == {"label": "G2"}
    unknown = Case("P2", "A", {})
    for task in (survival, grade):
        assert task.is_known(CASE)
        assert not task.is_known(unknown)
        assert task.target_values(unknown) == {}


def test_output_columns() -> None:
    assert SurvivalTask().output_columns(["site", "survival_365", "survival_730"]) == [
        "risk", "survival_365", "survival_730",
    ]  # fmt: skip
    assert ClassificationTask("grade", ("G2", "G3")).output_columns() == ["p_G2", "p_G3"]
    assert horizon_columns((1.0, 2.0)) == {"survival_365": 365, "survival_730": 730}


@pytest.mark.parametrize("task", [SurvivalTask(), ClassificationTask("grade", ("G2", "G3")), RegressionTask("purity")])
def test_a_task_is_read_from_the_metadata_of_predictions(task: Task) -> None:
    assert task_of({"task": task.name, "kind": task.kind, "classes": list(task.classes)}) == task


def test_problems_are_listed_with_the_rows_concerned() -> None:
    rows = pd.DataFrame({"risk": [1.0, 2.0], "survival_365": [0.5, 1.5], "days": [-1.0, 5.0], "event": [0, 1]})
    wrong = {problem: mask.tolist() for mask, problem in SurvivalTask().problems(rows)}
    assert wrong == {
        "probabilities outside 0 to 1": [False, True],
        "follow-up that is missing or negative": [True, False],
        "an event that is neither 0 nor 1": [False, False],
    }


def test_a_label_without_classes_is_a_number() -> None:
    task = make_task("purity", {"grade": ["G2", "G3"], "purity": []})
    case, donor = Case("P1", "A", {}, values={"purity": 0.25}), Case("P2", "A", {}, values={"purity": 0.75})
    assert isinstance(task, RegressionTask)
    assert (task.target(case), task.target_values(case)) == (0.25, {"target": 0.25})
    assert task.target(task.take_target(case, donor)) == 0.75
    assert not task.is_known(CASE)
    assert CASE.target("purity") is None
    assert [task.target_features(each) for each in (case, CASE)] == [[0.25, 1.0], [0.0, 0.0]]


def test_problems_of_numbers() -> None:
    rows = pd.DataFrame({"value": [1.0, 5.0, 1.0], "value_lower": [0.0, 0.0, 1.0], "value_upper": [2.0, 2.0, 1.0]})
    rows["target"] = [3.0, 1.0, np.nan]
    wrong = {problem: mask.tolist() for mask, problem in RegressionTask("purity").problems(rows)}
    assert wrong == {
        "a value outside its interval": [False, True, False],
        "targets that are missing or infinite": [False, False, True],
    }


def test_outcomes_as_features_and_exchanged() -> None:
    survival, grade = SurvivalTask(), ClassificationTask("grade", ("G2", "G3"))
    assert survival.target_features(CASE) == pytest.approx([np.log(11), 1, np.log(11)])
    assert grade.target_features(CASE) == [1, 0]
    other = Case("P2", "A", {}, survival=Survival(3.0, False), labels={"grade": "G3"})
    assert survival.target(survival.take_target(CASE, other)) == Survival(3.0, False)
    assert grade.target(grade.take_target(CASE, other)) == "G3"
