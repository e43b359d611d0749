"""Optional clinical inputs: how they are encoded, hidden in training and refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dml.core.errors import InputError
from dml.core.types import Case, Cohort
from dml.data.augmentation import hide_clinical
from dml.data.clinical_inputs import ClinicalInputs, value_of, without_inputs
from tests.synthetic import batch, cohort, fold

NAMES = ("age", "grade", "score")


def patient(**known) -> Case:
    labels = {"grade": known["grade"]} if "grade" in known else {}
    return Case("P", "", {}, labels=labels, covariates={k: v for k, v in known.items() if k == "age"})


def fitted(names=NAMES, task: str = "survival", data: Cohort | None = None, dropout: float = 0.3) -> ClinicalInputs:
    return ClinicalInputs.fit(fold(data or cohort(60)).learning, names, task, dropout)


def test_numbers_are_standardised_on_training_patients_and_classes_are_one_hot_with_unknown() -> None:
    training = fold(cohort(60)).learning
    ages = np.array([case.covariates["age"] for case in training.cases])
    inputs = fitted(("grade", "age"))
    assert (inputs.width, inputs.names) == (5, ("grade", "age"))
    expected = [0, 1, 0, (60 - ages.mean()) / ages.std(), 0]
    np.testing.assert_allclose(inputs(patient(age=60.0, grade="high")), expected, rtol=1e-6)
    assert inputs(patient()).tolist() == [0, 0, 1, 0, 1]
    assert inputs(patient(grade="of another cohort")).tolist() == [0, 0, 1, 0, 1]


def test_nothing_is_fitted_to_test_patients() -> None:
    data = cohort(60)
    tested = {case.patient_id for case in data.cases} - {case.patient_id for case in fold(data).learning.cases}
    cases = [replace(c, covariates={"age": 1e6}) if c.patient_id in tested else c for c in data.cases]
    assert fitted(data=replace(data, cases=tuple(cases))) == fitted(data=data)


@pytest.mark.parametrize(
    ("names", "task", "message"),
    [
        (("idh",), "survival", r"inputs\.clinical: unknown column 'idh'.*The cohort has: age, sex, grade, score"),
        (("grade",), "grade", r"inputs\.clinical: grade is the task itself"),
        (("sex",), "survival", r"inputs\.clinical: no training patient has a sex"),
        (("who",), "idh", r"inputs\.clinical: who decides idh, or idh it"),
        (("idh",), "who", r"inputs\.clinical: idh decides who, or who it"),
    ],
)
def test_what_is_no_input_is_refused(names: tuple[str, ...], task: str, message: str) -> None:
    data = cohort(60)
    if "idh" in message:
        kinds = [("wild", "GBM"), ("mutant", "astro"), ("mutant", "oligo")]
        labels = [dict(zip(("idh", "who"), kinds[i % 3], strict=True)) for i in range(60)]
        cases = tuple(replace(c, labels=label) for c, label in zip(data.cases, labels, strict=True))
        classes = {"idh": ("wild", "mutant"), "who": ("GBM", "astro", "oligo")}
        data = data if "unknown" in message else replace(data, cases=cases, classes=classes)
    with pytest.raises(InputError, match=message):
        fitted(names, task, data)


def test_labels_that_go_together_in_part_are_inputs() -> None:
    data = cohort(60)
    random = np.random.default_rng(0)
    cases = [
        replace(c, labels={**c.labels, "other": c.labels["grade"] if random.random() < 0.8 else "low"})
        for c in data.cases
    ]
    data = replace(data, cases=tuple(cases), classes={**data.classes, "other": ("low", "high")})
    assert fitted(("other",), "grade", data).width == 3


def test_each_is_hidden_and_sometimes_all_and_none_where_there_are_none() -> None:
    torch.manual_seed(0)
    inputs = fitted(("grade", "age"), dropout=0.3)
    known = torch.from_numpy(inputs(patient(age=60.0, grade="high"))).expand(4000, -1)
    data = replace(batch([(2, 1)] * 4000), covariates=torch.cat([torch.full((4000, 2), 7.0), known], 1))
    hidden = hide_clinical(data, inputs).covariates
    assert torch.equal(hidden[:, :2], data.covariates[:, :2]), "covariates stay"
    unknown = torch.from_numpy(inputs(patient()))
    grade, age = (hidden[:, 2:5] == unknown[:3]).all(1), (hidden[:, 5:] == unknown[3:]).all(1)
    assert grade.float().mean() == pytest.approx(1 - 0.7**2, abs=0.03)
    assert (grade & age).float().mean() == pytest.approx(0.3 + 0.7 * 0.09, abs=0.03)
    assert torch.equal(hidden[~grade, 2:5], known[~grade, :3])
    assert torch.equal(hidden[~age, 5:], known[~age, 3:])
    state = torch.get_rng_state()
    assert hide_clinical(data, None) is data
    assert torch.equal(torch.get_rng_state(), state), "no draws without clinical inputs"


def test_values_of_a_users_table() -> None:
    inputs = fitted(("grade", "age"))
    assert inputs.parse({"grade": " high ", "age": "61.5", "other": 1}) == {"grade": "high", "age": 61.5}
    assert inputs.parse({"grade": float("nan"), "age": ""}) == {}
    with pytest.raises(InputError, match=r"column grade: unknown value 'High'\. Use low, high"):
        inputs.parse({"grade": "High"})
    with pytest.raises(InputError, match="column age: 'sixty' is no number"):
        inputs.parse({"age": "sixty"})


def test_hiding_leaves_everything_else() -> None:
    case = cohort(1).cases[0]
    gone = without_inputs(case, {"grade", "age", "score"})
    assert [value_of(gone, name) for name in NAMES] == [None] * 3
    assert gone == replace(case, labels={}, covariates={}, values={})
