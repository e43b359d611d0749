"""Whatever is written over the test patients of a fold, every kind of model comes out the same.

Fold 0 is cut out of a cohort, once as it is, once with outcome, genes, tiles, labels, age and site of its test patients
replaced. What was fitted must not differ in a bit; nor may what the model says of the learning patients.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dml.baselines.linear.fit import fit_baseline
from dml.baselines.linear.late_fusion_clinical import fit_late_fusion
from dml.baselines.linear.regression import make_regression
from dml.config import params as config
from dml.core.types import Bag, Case, Cohort, Survival
from dml.models import registry
from dml.training.folds import Fold, predict_fold, select_test_patients
from dml.training.train import distill_student, train_baseline, train_teacher
from dml.training.training_result import TrainingResult
from tests.synthetic import PARAMS, change, cohort, fold, splits

PARAMS = change(
    PARAMS,
    model={"width": 8, "n_queries": 2, "gene_width": 8, "linear_offset": config.LinearOffset(components=2)},
    optimisation={"epochs": 1, "batch_size": 16, "ensemble_size": 2, "patience": 10},
)
YEARS = (1.0, 3.0)


def spoilt(case: Case) -> Case:
    def painted_over(bag: Bag) -> Bag:
        return replace(bag, tokens=torch.full_like(bag.tokens, 99.0))

    return replace(
        case,
        site="elsewhere",
        survival=Survival(1.0, True),
        expression=None if case.expression is None else np.full_like(case.expression, 1e6),
        labels={"grade": "low"},
        covariates={"age": 1e4},
        bags={mpp: painted_over(bag) for mpp, bag in case.bags.items()},
    )


@pytest.fixture(scope="module")
def both() -> tuple[Cohort, Cohort]:
    """The cohort as it is, and with its test patients poisoned."""
    data = cohort(60, absent=6)
    tested = {case.patient_id for case in select_test_patients(data, splits(data), 0).cases}
    return data, replace(data, cases=tuple(spoilt(c) if c.patient_id in tested else c for c in data.cases))


def student(part: Fold, task: str) -> TrainingResult:
    return distill_student(part, PARAMS, task, train_teacher(part, PARAMS, task).model)


def imputing(part: Fold, task: str) -> TrainingResult:
    params = change(PARAMS, distillation={"architecture": "gene_imputation"})
    return distill_student(part, params, task, train_teacher(part, params, task).model)


def completing(part: Fold, task: str) -> TrainingResult:
    params = change(PARAMS, distillation={"architecture": "completed_genes"})
    return distill_student(part, params, task, train_teacher(part, params, task).model)


def deep(name: str) -> Callable[[Fold, str], TrainingResult]:
    def trained(part: Fold, task: str) -> TrainingResult:
        result = train_baseline(part, PARAMS, task, name)
        assert result is not None
        return result

    return trained


TRAINED: dict[str, Callable[[Fold, str], TrainingResult]] = {
    "teacher": lambda part, task: train_teacher(part, PARAMS, task),
    "student": student,
    "student that imputes genes": imputing,
    "student that completes genes": completing,
    "student, undistilled": lambda part, task: distill_student(part, PARAMS, task, None),
    **{name: deep(name) for name in registry.deep_names()},
}


@pytest.mark.parametrize("task", ["survival", "grade"])
@pytest.mark.parametrize("kind", TRAINED)
def test_no_network_depends_on_the_test_patients(both: tuple[Cohort, Cohort], kind: str, task: str) -> None:
    clean, dirty = (TRAINED[kind](fold(data), task) for data in both)
    assert clean.model.spec.model_dump_json() == dirty.model.spec.model_dump_json()
    for one, other in zip(clean.model.members, dirty.model.members, strict=True):
        weights, others = one.state_dict(), other.state_dict()
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights)
    rows = [predict_fold(trained, fold(data), select_test_patients(data, splits(data), 0), kind)[0]
            for trained, data in zip((clean, dirty), both, strict=True)]  # fmt: skip
    validation = [part[part["role"] == "validation"] for part in rows]
    pd.testing.assert_frame_equal(*validation, check_exact=True)


@pytest.mark.parametrize("task", ["survival", "grade"])
@pytest.mark.parametrize("name", registry.linear_names())
def test_no_linear_baseline_depends_on_the_test_patients(both: tuple[Cohort, Cohort], name: str, task: str) -> None:
    def fitted(data: Cohort):
        part = fold(data)
        regression = make_regression(task, part.learning.classes, YEARS)
        return fit_baseline(name, part.learning, {"validation": part.validation()}, regression, config.Baselines())

    clean, dirty = (fitted(data) for data in both)
    assert clean.description == dirty.description
    assert clean.metadata == dirty.metadata
    pd.testing.assert_frame_equal(clean.rows, dirty.rows, check_exact=True)


@pytest.mark.parametrize("task", ["survival", "grade"])
def test_late_fusion_does_not_depend_on_the_test_patients(both: tuple[Cohort, Cohort], task: str) -> None:
    """The layer is fitted on validation rows; what it makes of the rows of test patients depends on no outcome."""
    data = cohort(160)  # the layer wants twenty validation patients
    tested = {case.patient_id for case in select_test_patients(data, splits(data), 0).cases}
    other = {"low": "high", "high": "low"}
    turned = tuple(
        replace(c, survival=Survival(1.0, True), labels={"grade": other[c.labels["grade"]]})
        if c.patient_id in tested
        else c
        for c in data.cases
    )
    results = []
    for version in (data, replace(data, cases=turned)):
        part = fold(version)
        regression = make_regression(task, part.learning.classes, YEARS)
        rows = predict_fold(
            train_teacher(part, PARAMS, task), part, select_test_patients(version, splits(version), 0), "teacher"
        )[0]
        fused = fit_late_fusion("teacher", rows, version, regression)
        assert not isinstance(fused, str), fused
        results.append(fused)
    clean, dirty = results
    assert clean.description == dirty.description
    outputs = [name for name in clean.rows if name.startswith(("risk", "survival_", "p_"))]
    pd.testing.assert_frame_equal(clean.rows[outputs], dirty.rows[outputs], check_exact=True)
