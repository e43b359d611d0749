"""Training end to end on a small planted cohort: it learns, it is honest, it is exact."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dml.config import params as config
from dml.core.errors import ConfigError, DmlError, InputError
from dml.core.types import Cohort, Survival
from dml.data.patient_reader import PatientReader
from dml.data.prediction_columns import interpolate_survival
from dml.models.student import Student
from dml.training.checkpoint import FoldModel
from dml.training.folds import select_test_patients
from dml.training.train import distill_student, train_teacher
from dml.training.trainer import lr_factor
from tests import oracles
from tests.synthetic import PARAMS, change, cohort, concordance, fold, quiet, splits

QUICK = change(PARAMS, optimisation={"epochs": 2})


@pytest.fixture(scope="module")
def trained() -> tuple[Cohort, FoldModel]:
    data = cohort(200, absent=10)
    return data, train_teacher(fold(data), PARAMS, "survival").model


def test_the_teacher_learns_the_planted_risk(trained: tuple[Cohort, FoldModel]) -> None:
    data, model = trained
    everyone = select_test_patients(data, splits(data), 0)
    test = replace(everyone, cases=tuple(c for c in everyone.cases if c.expression is not None))
    planted = [1.2 * c.expression[:5].mean() + 0.6 * c.expression[5:].mean() for c in test.cases]
    oracle = concordance(pd.DataFrame({"patient_id": [c.patient_id for c in test.cases], "risk": planted}), test)
    assert oracle > 0.6
    assert concordance(model.predict(test), test) > oracle - 0.05


def test_saved_and_loaded_the_model_predicts_the_same(trained: tuple[Cohort, FoldModel], tmp_path: Path) -> None:
    data, model = trained
    model.save(tmp_path)
    pd.testing.assert_frame_equal(FoldModel.load(tmp_path).predict(data), model.predict(data), check_exact=True)


def test_the_order_and_company_of_patients_does_not_matter(trained: tuple[Cohort, FoldModel]) -> None:
    data, model = trained
    turned = replace(data, cases=data.cases[::-1])
    a, b = model.predict(data), model.predict(turned, batch_size=3).iloc[::-1].reset_index(drop=True)
    assert a["patient_id"].tolist() == b["patient_id"].tolist()
    np.testing.assert_allclose(a.drop(columns="patient_id"), b.drop(columns="patient_id"), atol=1e-5)


def test_survival_curves_fall_and_agree_with_the_slow_twin(trained: tuple[Cohort, FoldModel]) -> None:
    data, model = trained
    predicted = model.predict(data)
    curves = predicted.filter(like="survival_").to_numpy()
    assert (np.diff(curves, axis=1) <= 1e-9).all()
    assert ((curves > 0) & (curves <= 1)).all()
    prepared = model.spec.preprocessor
    hazards = np.array([[0.1, 0.3, 0.2, 0.4]])
    ends, baseline = [*prepared.bin_edges.tolist(), prepared.last_day], prepared.baseline
    before = prepared.model_copy(update={"baseline": None})
    for days in (50.0, 365.0, 1200.0, 9e4):
        curve = np.cumprod(1 - hazards, axis=1)
        constant = interpolate_survival(curve, days, before)
        assert float(constant[0]) == pytest.approx(oracles.survival_after(days, ends, hazards[0]), rel=1e-9)
        at = [float(baseline(np.array([day]))[0]) for day in (*ends[:-1], 1e9)]  # in operational time
        passed = float(baseline(np.array([days]))[0])
        proportional = interpolate_survival(curve, days, prepared)
        assert float(proportional[0]) == pytest.approx(oracles.survival_after(passed, at, hazards[0]), rel=1e-6)


def test_test_patients_cannot_change_the_model() -> None:
    """Poison everything about the test patients: the same model must come out (fault 7)."""
    data = cohort(40)
    test_ids = {c.patient_id for c in select_test_patients(data, splits(data), 0).cases}
    poisoned = tuple(
        replace(c, survival=Survival(1.0, True), expression=np.full_like(c.expression, 1e6), labels={"grade": "low"})
        if c.patient_id in test_ids
        else c
        for c in data.cases
    )
    clean = train_teacher(fold(data), QUICK, "survival").model
    dirty = train_teacher(fold(replace(data, cases=poisoned)), QUICK, "survival").model
    assert clean.spec.model_dump_json() == dirty.spec.model_dump_json()
    for a, b in zip(clean.members[0].state_dict().values(), dirty.members[0].state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_same_seed_same_model_other_seed_other_model() -> None:
    data = cohort(30)
    first, second = (train_teacher(fold(data), QUICK, "survival") for _ in range(2))
    pd.testing.assert_frame_equal(first.history, second.history, check_exact=True)
    other = train_teacher(fold(data), QUICK.model_copy(update={"seed": 1}), "survival")
    assert not first.history["validation_loss"].equals(other.history["validation_loss"])


def test_members_trained_side_by_side_are_the_same() -> None:
    data = cohort(60)
    alone = change(QUICK, optimisation={"ensemble_size": 3})
    side_by_side = change(alone, optimisation={"workers": 2})
    teachers = [train_teacher(fold(data), params, "survival") for params in (alone, side_by_side)]
    pd.testing.assert_frame_equal(*(t.history for t in teachers), check_exact=True)
    students = [
        distill_student(fold(data), params, "survival", teachers[0].model).model for params in (alone, side_by_side)
    ]
    pd.testing.assert_frame_equal(*(s.predict(data) for s in students), check_exact=True)


def test_gradients_of_micro_batches_add_up_to_those_of_the_batch() -> None:
    data = cohort(60)
    whole = quiet(QUICK)
    cut = change(whole, optimisation={"max_tokens": 20})
    histories = [train_teacher(fold(data), params, "survival").history for params in (whole, cut)]
    np.testing.assert_allclose(*histories, rtol=1e-3)


def test_members_are_averaged() -> None:
    data = cohort(30)
    both = train_teacher(fold(data), change(QUICK, optimisation={"ensemble_size": 2}), "grade").model
    alone = [FoldModel(both.spec, (member,)).predict(data)["p_high"] for member in both.members]
    np.testing.assert_allclose(both.predict(data)["p_high"], (alone[0] + alone[1]) / 2, atol=1e-7)


def test_each_member_is_validated_on_an_inner_fold_of_its_own() -> None:
    """Three inner folds, three members: every patient is trained on, and predicted by the one that did not."""
    data = cohort(45)
    whole = fold(data)
    assert whole.n_inner_folds == 3
    for member in range(4):
        trained, validated = (
            {c.patient_id for c in part.cases} for part in (whole.training(member), whole.validation(member))
        )
        assert not trained & validated
        assert validated == {patient for patient, number in whole.inner_fold_of.items() if number == member % 3}
        assert trained | validated == {c.patient_id for c in whole.learning.cases}
    one_epoch = change(PARAMS, optimisation={"epochs": 1, "ensemble_size": 3, "shrinkage": None})
    trained = train_teacher(whole, one_epoch, "grade")
    model, rows = trained.model, trained.out_of_fold
    assert sorted(rows["patient_id"]) == sorted(whole.inner_fold_of)
    for member in range(3):
        alone = model.predict(whole.validation(member), members=[member])
        same = rows[rows["patient_id"].isin(alone["patient_id"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(same, alone, rtol=1e-5)


def test_a_validation_patient_cannot_change_the_member_selected_on_it_but_others() -> None:
    """Poisoned labels of inner fold 1: member 1 has no gradient from them; member 0 is trained on them."""
    data = cohort(45)
    poisoned_ids = {c.patient_id for c in fold(data).validation(1).cases}
    other = {"low": "high", "high": "low"}
    turned = tuple(
        replace(c, labels={"grade": other[c.labels["grade"]]}) if c.patient_id in poisoned_ids else c
        for c in data.cases
    )
    quick = change(PARAMS, optimisation={"epochs": 1, "ensemble_size": 2, "shrinkage": None})
    clean, dirty = (distill_student(fold(d), quick, "grade", None) for d in (data, replace(data, cases=turned)))
    weights = [[m.head.weights[0] for m in t.model.members] for t in (clean, dirty)]
    assert not torch.equal(weights[0][0], weights[1][0])
    # class weights are fitted on all learning patients, so the two members can only be told apart without them
    balanced = sum(c.labels["grade"] == "high" for c in fold(data).learning.cases)
    turned_balanced = sum(c.labels["grade"] == "high" for c in fold(replace(data, cases=turned)).learning.cases)
    assert torch.equal(weights[0][1], weights[1][1]) == (balanced == turned_balanced)


def test_the_teacher_learns_from_patients_without_slide() -> None:
    data = cohort(40)
    bare = replace(data, cases=tuple(replace(c, bags={}) if i % 5 == 0 else c for i, c in enumerate(data.cases)))
    quick = change(PARAMS, optimisation={"epochs": 1})
    only = change(quick, teacher={"use_unpaired": False})
    whole, paired = (train_teacher(fold(bare), params, "survival").model.members[0] for params in (quick, only))
    assert not torch.equal(whole.head.weights[1], paired.head.weights[1])


def test_auxiliary_labels_are_learnt_beside_the_task() -> None:
    """Survival is the task; the grade, which the tumor factor decides, is an auxiliary label."""
    data = cohort(120)
    weight = {"auxiliary_weight": 1.0}
    params = change(PARAMS, inputs={"auxiliary": ("grade",)}, teacher=weight, distillation=weight)
    for trained in (
        train_teacher(fold(data), params, "survival"),
        distill_student(fold(data), params, "survival", None),
    ):
        history = trained.history["train_auxiliary"]
        assert history.iloc[-1] < history.iloc[0] < 1.0
        assert trained.model.spec.preprocessor.auxiliary == {"grade": ("low", "high")}
    assert not train_teacher(fold(data), params, "grade").model.spec.preprocessor.auxiliary, (
        "the task is no auxiliary of itself"
    )
    unknown = params.model_copy(update={"inputs": config.Inputs(auxiliary=("idh",))})
    with pytest.raises(InputError, match=r"inputs\.auxiliary: unknown label 'idh'"):
        train_teacher(fold(data), unknown, "survival")


def test_the_student_learns_from_its_teacher(trained: tuple[Cohort, FoldModel]) -> None:
    data, teacher = trained
    with_teacher = distill_student(fold(data), PARAMS, "survival", teacher)
    assert {"train_feature_distillation", "train_prediction_distillation"} <= set(with_teacher.history)
    history = with_teacher.history
    assert history["train_prediction_distillation"].iloc[-1] < history["train_prediction_distillation"].iloc[0]
    alone = distill_student(fold(data), PARAMS, "survival", None)
    assert "train_feature_distillation" not in alone.history
    assert alone.model.predict(data)["risk"].std() > 0


def test_the_student_learns_from_unpaired_patients() -> None:
    """Slide and label but no genes: task only. Slide and genes but no label: distillation only."""
    data = cohort(40, absent=10)
    cases = tuple(replace(c, survival=None) if 10 <= i < 20 else c for i, c in enumerate(data.cases))
    data = replace(data, cases=cases)
    teacher = train_teacher(fold(data), QUICK, "survival").model
    paired = change(QUICK, distillation={"use_unpaired": False})
    paired_only = distill_student(fold(data), paired, "survival", teacher)
    everyone = distill_student(fold(data), QUICK, "survival", teacher)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(
            paired_only.model.members[0].state_dict().values(),
            everyone.model.members[0].state_dict().values(),
            strict=True,
        )
    )
    without = {c.patient_id for c in data.cases if c.expression is None}
    read = PatientReader(teacher.spec.preprocessor, data)
    targets = teacher.distillation_targets([read(c) for c in data.cases if c.patient_id in without], 0)
    assert not any(bool(target.has_target) for target in targets.values())


def test_schedule_rises_then_falls_to_zero_at_the_last_step() -> None:
    rates = [lr_factor(step, 100, 0.1) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == 1.0
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_divergence_is_an_error() -> None:
    broken = change(PARAMS, optimisation={"learning_rate": 1e30})
    with pytest.raises(DmlError, match="diverged in epoch"):
        train_teacher(fold(cohort(30)), broken, "survival")


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_damaged_model_is_refused(trained: tuple[Cohort, FoldModel], tmp_path: Path, name: str) -> None:
    trained[1].save(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"Train it again|Delete it"):
        FoldModel.load(tmp_path)


def test_a_student_may_be_the_frozen_teacher_with_imputed_genes(
    trained: tuple[Cohort, FoldModel], tmp_path: Path
) -> None:
    data, teacher = trained
    imputing = change(PARAMS, distillation={"architecture": "gene_imputation"})
    result = distill_student(fold(data), imputing, "survival", teacher)
    weights = result.model.members[0].teacher.state_dict()
    for name, value in teacher.members[0].state_dict().items():
        assert torch.equal(weights[name], value), "the teacher is frozen"
    assert result.history["train_feature_distillation"].iloc[-1] < result.history["train_feature_distillation"].iloc[0]
    bare = replace(data, cases=tuple(replace(c, expression=None) for c in data.cases))
    pd.testing.assert_frame_equal(result.model.predict(bare), result.model.predict(data))
    result.model.save(tmp_path)
    pd.testing.assert_frame_equal(FoldModel.load(tmp_path).predict(data), result.model.predict(data))
    alone = distill_student(fold(data), imputing, "survival", None)
    assert isinstance(alone.model.members[0], Student)


def test_a_student_may_be_the_frozen_teacher_with_sampled_genes(tmp_path: Path) -> None:
    data = cohort(90, absent=6)
    offset = config.LinearOffset(components=2)
    completing = change(
        PARAMS,
        distillation={"architecture": "completed_genes"},
        model={"linear_offset": offset},
        optimisation={"ensemble_size": 1, "epochs": 4},
    )
    teacher = train_teacher(fold(data), completing, "survival").model
    result = distill_student(fold(data), completing, "survival", teacher)
    student = result.model.members[0]
    for name, value in teacher.members[0].state_dict().items():
        assert torch.equal(student.teacher.state_dict()[name], value), "the teacher is frozen"
    losses = result.history[result.history["member"] == 0]["train_flow_matching"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert not torch.equal(student.centre, torch.zeros_like(student.centre)), "the scale is fitted"
    assert teacher.spec.linear_offset is not None
    assert result.model.spec.linear_offset == teacher.spec.linear_offset.of_sources("slide"), "slides alone"
    some = replace(data, cases=data.cases[:20])
    bare = replace(some, cases=tuple(replace(c, expression=None) for c in some.cases))
    pd.testing.assert_frame_equal(result.model.predict(bare), result.model.predict(some))
    pd.testing.assert_frame_equal(result.model.predict(some, batch_size=7), result.model.predict(some), rtol=1e-5)
    result.model.save(tmp_path)
    pd.testing.assert_frame_equal(FoldModel.load(tmp_path).predict(some), result.model.predict(some))


def test_the_control_of_sampled_genes_learns_those_of_other_patients(trained: tuple[Cohort, FoldModel]) -> None:
    data, teacher = trained
    completing = change(
        PARAMS,
        distillation={"architecture": "completed_genes"},
        optimisation={"ensemble_size": 1, "epochs": 1, "batch_size": 16},
    )
    some = replace(data, cases=data.cases[:10])
    result, control = (
        distill_student(fold(data), completing, "survival", teacher, shuffle_targets=shuffled).model.predict(some)
        for shuffled in (False, True)
    )
    assert not control.equals(result)
    alone = distill_student(fold(data), completing, "survival", None)
    assert isinstance(alone.model.members[0], Student)


def test_genes_can_be_completed_only_after_those_that_are_measured(trained: tuple[Cohort, FoldModel]) -> None:
    data, teacher = trained
    bare = replace(data, cases=tuple(replace(c, expression=None) for c in data.cases))
    completing = change(PARAMS, distillation={"architecture": "completed_genes"})
    with pytest.raises(ConfigError, match="needs learning patients with a transcriptome"):
        distill_student(fold(bare), completing, "survival", teacher)


def test_consistency_of_expression_learns_genes_from_tissue() -> None:
    data = cohort(120, absent=10)
    expression = change(PARAMS, teacher={"consistency_weight": 1.0, "consistency_target": "expression"})
    history = train_teacher(fold(data), expression, "survival").history["train_consistency"]
    assert history.iloc[-1] < history.iloc[0]
