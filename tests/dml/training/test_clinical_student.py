"""A student with optional clinical inputs: what it reads, shrinks, saves, and how its answers change without them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from dml.attribution.linear_share import offset_shares
from dml.config import params as config
from dml.core.errors import InputError
from dml.core.tasks import SurvivalTask
from dml.core.types import Cohort, Survival
from dml.data.batches import collate
from dml.data.clinical_inputs import without_inputs
from dml.data.patient_reader import PatientReader
from dml.probes.clinical import hide_clinical_inputs
from dml.probes.fold_models import FoldModels, collect_outcomes
from dml.probes.paired_scorer import PairedScorer
from dml.training.checkpoint import FoldModel
from dml.training.ensemble_trainer import fit_shared
from dml.training.folds import make_fold, select_test_patients
from dml.training.train import distill_student, train_teacher
from tests.synthetic import PARAMS, change, cohort, fold, splits

NAMES = ("age", "grade", "score")
READING = change(PARAMS, inputs={"clinical": NAMES}, optimisation={"epochs": 6, "ensemble_size": 2, "workers": 2})


@pytest.fixture(scope="module")
def data() -> Cohort:
    return cohort(100, absent=10)


@pytest.fixture(scope="module")
def teacher(data: Cohort) -> FoldModel:
    return train_teacher(fold(data), READING, "survival").model


@pytest.fixture(scope="module")
def student(data: Cohort, teacher: FoldModel) -> FoldModel:
    return distill_student(fold(data), READING, "survival", teacher).model


def risks(model: FoldModel, data: Cohort, hidden=()) -> np.ndarray:
    cases = tuple(without_inputs(case, set(hidden)) for case in data.cases)
    return model.predict(replace(data, cases=cases))["risk"].to_numpy()


def test_students_read_them_and_teachers_do_not(
    data: Cohort, teacher: FoldModel, student: FoldModel, tmp_path: Path
) -> None:
    assert teacher.spec.preprocessor.clinical is None
    twin = distill_student(fold(data), READING, "survival", None).model
    for model in (student, twin):
        assert all(not np.allclose(risks(model, data, {name}), risks(model, data)) for name in NAMES)
        assert np.isfinite(risks(model, data, NAMES)).all()
    assert np.array_equal(risks(teacher, data, NAMES), risks(teacher, data))
    student.save(tmp_path)
    assert np.array_equal(risks(FoldModel.load(tmp_path), data, {"age"}), risks(student, data, {"age"}))


def test_the_linear_reference_reads_what_is_known_and_the_slide_alone_where_nothing_is(data: Cohort) -> None:
    older = [replace(c, survival=Survival(40.0 * (99 - i) + 9, True)) for i, c in enumerate(data.cases)]
    aged = tuple(replace(c, covariates={**c.covariates, "age": 30.0 + i / 2}) for i, c in enumerate(older))
    known = replace(data, cases=aged)
    reading = change(READING, inputs={"clinical": ("age",)}, model={"linear_offset": config.LinearOffset(components=3)})
    model = distill_student(fold(known), reading, "survival", None).model
    assert set(model.spec.linear_offset.models) == {"slide+clinical", "slide"}
    test = select_test_patients(known, splits(known), 0)
    read = PatientReader(model.spec.preprocessor, test, model.spec.linear_offset)
    with_age = np.array([read(case).offset[0] for case in test.cases])
    without = np.array([read(without_inputs(case, {"age"})).offset[0] for case in test.cases])
    age = [case.covariates["age"] for case in test.cases]
    assert spearmanr(with_age, age).statistic > 0.9
    assert abs(spearmanr(without, age).statistic) < 0.6
    assert spearmanr(risks(model, test), age).statistic > 0.9
    shares = offset_shares(model.spec.linear_offset, model.spec.preprocessor, replace(test, cases=test.cases[:1]))
    total = shares.reference + sum(share.sum(0) for share in shares.tiles)
    np.testing.assert_allclose(total, read(test.cases[0]).offset, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_layers_of_clinical_inputs(data: Cohort, student: FoldModel) -> None:
    read = student.reader(data)
    some = collate([read(case) for case in data.cases[:8]], student.spec.preprocessor)
    member = student.spec.build()
    torch.nn.init.normal_(member.head.clinical.last.weight)
    member(some).logits.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in member.head.clinical.parameters())


def test_a_shrunk_network_keeps_its_clinical_part_in_proportion(data: Cohort, student: FoldModel) -> None:
    head = student.spec.build().head
    torch.nn.init.normal_(head.clinical.last.weight)
    embeddings, columns = [torch.randn(3, 16) for _ in head.inputs], torch.randn(3, head.clinical.first.in_features)
    head.eval()
    before = head(embeddings, columns)
    head.shrink(0.25, torch.ones(before.shape[1]))
    torch.testing.assert_close(head(embeddings, columns), 0.25 * before + 1)


def test_the_curve_of_hidden_inputs(data: Cohort, teacher: FoldModel, student: FoldModel) -> None:
    test = select_test_patients(data, splits(data), 0)
    learning = make_fold(data, splits(data), 0).learning
    folds = [FoldModels(0, {"teacher": teacher, "student": student}, learning, test)]
    scorer = PairedScorer.of(
        SurvivalTask(), collect_outcomes(folds, SurvivalTask()), config.Evaluation(resamples=50), 0
    )
    found = hide_clinical_inputs(folds, scorer, [0.0, 0.5, 1.0], 2, 1)
    assert [point["share"] for point in found["curve"]] == [0.0, 0.5, 1.0]
    assert found["curve"][0]["difference"]["difference"] == 0
    assert found["without"].keys() == set(NAMES)
    assert found["without"]["age"]["known"] == 1
    hidden = replace(test, cases=tuple(without_inputs(case, set(NAMES)) for case in test.cases))
    alone = scorer.value(scorer.metric(student.predict(hidden).sort_values("patient_id", ignore_index=True)))
    assert found["curve"][-1]["value"] == alone["value"]
    without = [replace(one, models={**one.models, "student": teacher}) for one in folds]
    assert hide_clinical_inputs(without, scorer, [0.0], 1, 1) is None


def test_off_by_default_and_refused_by_name(data: Cohort) -> None:
    shared = fit_shared("student", fold(data), PARAMS, "survival", fold(data).learning.cases)
    assert shared.spec.preprocessor.clinical is None
    assert shared.spec.build().head.clinical is None
    with pytest.raises(InputError, match=r"inputs\.clinical: grade is the task itself"):
        distill_student(fold(data), READING, "grade", None)
