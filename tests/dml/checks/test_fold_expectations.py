"""A fold in which a task cannot be learnt or judged is refused before training, and named."""

import pandas as pd
import pytest

from dml.checks.fold_expectations import check_folds
from dml.core.errors import CheckFailed, ConfigError

CLASSES = {"grade": ["G2", "G3", "G4"]}


def split(first: str) -> pd.DataFrame:
    """Two folds of patients a to f; those named are tested in fold 0, the others in fold 1."""
    rows = [(p, k, "test" if (p in first) == (k == 0) else "train") for k in (0, 1) for p in "abcdef"]
    return pd.DataFrame(rows, columns=["patient_id", "fold", "role"])


def patients(events: str = "101010", grades: str = "234234") -> pd.DataFrame:
    event = [None if e == "?" else e == "1" for e in events]
    grade = [None if g == "?" else f"G{g}" for g in grades]
    return pd.DataFrame({"patient_id": list("abcdef"), "survival_days": 9.0, "event": event, "grade": grade})


def test_folds_that_are_fit_pass() -> None:
    check_folds(split("abc"), patients(), ["survival", "grade"], CLASSES)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ("000111", "survival, fold 0: none of the 3 test patients with follow-up died"),
        ("000111", "survival, fold 1: none of the 3 training patients with follow-up died"),
        ("0?0111", "survival, fold 0: none of the 2 test patients with follow-up died"),
    ],
)
def test_a_fold_without_a_death(events: str, message: str) -> None:
    with pytest.raises(CheckFailed, match=message) as error:
        check_folds(split("abc"), patients(events), ["survival"], CLASSES)
    assert error.value.exit_code == 3
    assert "Use fewer folds, name the task's label in split.stratify" in str(error.value)


def test_a_fold_with_one_class() -> None:
    with pytest.raises(CheckFailed, match="3 parts of folds cannot be used") as error:
        check_folds(split("abc"), patients(grades="222344"), ["grade"], CLASSES)
    said = str(error.value).splitlines()
    assert said[1:4] == [
        "  grade, fold 0: none of the 3 training patients is G2",
        "  grade, fold 0: none of the 3 test patients is G3 or G4",
        "  grade, fold 1: none of the 3 training patients is G3 or G4",
    ]
    check_folds(split("abc"), patients(grades="222344"), ["survival"], CLASSES)


def test_two_of_three_classes_are_enough_to_be_judged() -> None:
    first = split("ab").query("fold == 0")
    check_folds(first, patients(grades="232344"), ["grade"], CLASSES)


def test_an_unknown_task() -> None:
    with pytest.raises(ConfigError, match="tasks: idh is no task of this cohort; there are survival, grade"):
        check_folds(split("abc"), patients(), ["idh"], CLASSES)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([1, 1, 1, 2, 3, 4], "purity, fold 0: the 3 test patients with a number have 1 different ones"),
        ([1, 2, 3, 4, 4, 4], "purity, fold 0: the 3 training patients with a number have 1 different ones"),
        ([1, 2, 3, None, None, None], "purity, fold 0: the 0 training patients with a number have 0 different ones"),
    ],
)
def test_a_fold_whose_numbers_do_not_vary(numbers: list[float | None], message: str) -> None:
    check_folds(split("abc"), patients().assign(purity=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), ["purity"], {"purity": []})
    with pytest.raises(CheckFailed, match=message):
        check_folds(split("abc"), patients().assign(purity=numbers), ["purity"], {"purity": []})
