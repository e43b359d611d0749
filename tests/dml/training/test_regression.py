"""A fold of a number: teacher, student and baselines learn it, every weight has a gradient, bad numbers are refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dml.baselines.linear.fit import fit_baseline
from dml.baselines.linear.late_fusion_clinical import fit_late_fusion
from dml.baselines.linear.regression import make_regression
from dml.config import params as config
from dml.core.errors import InputError
from dml.core.predictions import check_predictions, write_predictions
from dml.core.types import NumberTarget
from dml.data.batches import collate
from dml.data.patient_reader import PatientReader
from dml.evaluation.metric_sets import number_metrics
from dml.evaluation.results import read_results
from dml.models import registry
from dml.models.likelihoods import log_likelihood
from dml.training.checkpoint import FoldModel
from dml.training.folds import make_fold, predict_fold, select_test_patients
from dml.training.loss_terms.distillation import prediction_divergence
from dml.training.losses import task_loss
from dml.training.objectives import TaskObjective
from dml.training.train import distill_student, train_baseline, train_teacher
from dml.training.training_result import TrainingResult
from tests.synthetic import PARAMS, change, cohort, splits

PATIENTS = cohort(160)
SPLITS = splits(PATIENTS)
FOLD, TEST = make_fold(PATIENTS, SPLITS, 0), select_test_patients(PATIENTS, SPLITS, 0)
LOSSES = ("quantile", "gaussian")


def params(loss: str = "quantile", **optimisation: object) -> config.Params:
    return change(PARAMS, optimisation={"regression_loss": loss, "epochs": 30, "patience": 30, **optimisation})


def scores(rows: pd.DataFrame) -> dict[str, float]:
    tested = rows[rows["role"] == "test"]
    return {name: float(metric(np.ones((1, len(tested))))[0]) for name, metric in number_metrics(tested).items()}


@pytest.fixture(scope="module", params=LOSSES)
def trained(request: pytest.FixtureRequest) -> tuple[config.Params, TrainingResult, TrainingResult]:
    settings = params(request.param)
    teacher = train_teacher(FOLD, settings, "score")
    return settings, teacher, distill_student(FOLD, settings, "score", teacher.model)


def test_teacher_and_student_learn_what_the_linear_model_learns(trained, tmp_path) -> None:
    _, teacher, student = trained
    regression = make_regression("score", PATIENTS.classes, ())
    fitted = {
        name: fit_baseline(name, FOLD.learning, {"test": TEST}, regression, config.Baselines())
        for name in ("null", "linear_slide", "linear_slide_genes")
    }
    written = {name: (result.rows.assign(fold=0), result.metadata) for name, result in fitted.items()}
    written |= {name: predict_fold(m, FOLD, TEST, name) for name, m in (("teacher", teacher), ("student", student))}
    for name, (rows, metadata) in written.items():
        write_predictions(tmp_path / name / "fold-0" / "predictions.parquet", rows, metadata)
    results = {name: scores(model.rows) for name, model in read_results(tmp_path).models.items()}
    assert results["linear_slide_genes"]["r2"] > 0.3
    assert results["linear_slide"]["r2"] > 0.3
    assert results["null"]["spearman"] == 0
    assert results["teacher"]["r2"] > 0.3
    assert results["student"]["r2"] > 0.2
    assert results["student"]["spearman"] > 0.4
    assert 0.5 < results["teacher"]["coverage"] <= 1


def test_intervals_hold_the_share_of_patients_they_promise(trained) -> None:
    for result in trained[1:]:
        joined = result.out_of_fold.set_index("patient_id")
        target = pd.Series({c.patient_id: c.values["score"] for c in PATIENTS.cases}).reindex(joined.index)
        inside = (target >= joined["value_lower"]) & (target <= joined["value_upper"])
        assert inside.mean() == pytest.approx(0.8, abs=1.5 / len(joined)), "of out-of-fold predictions, by construction"
        assert result.model.spec.preprocessor.target_scale.margin != 0


def test_predictions_are_in_the_unit_of_the_label(trained, tmp_path) -> None:
    teacher = trained[1].model
    numbers = np.array([case.values["score"] for case in PATIENTS.cases])
    rows = teacher.predict(TEST)
    assert rows.columns.tolist() == ["patient_id", "value", "value_lower", "value_upper"]
    assert abs(rows["value"].mean() - numbers.mean()) < numbers.std()
    assert teacher.predict(TEST.subset(set())).columns.tolist() == rows.columns.tolist()
    teacher.save(tmp_path)
    pd.testing.assert_frame_equal(FoldModel.load(tmp_path).predict(TEST), rows)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_affine_change_of_the_numbers_changes_predictions_alike(loss: str) -> None:
    """Fahrenheit or Celsius: what is learned is the same."""
    settings = params(loss, epochs=2)
    cases = tuple(replace(c, values={"score": 1.8 * c.values["score"] + 32}) for c in PATIENTS.cases)
    other = replace(PATIENTS, cases=cases)
    one = train_baseline(FOLD, settings, "score", "mean_pool").model.predict(TEST)
    two = train_baseline(make_fold(other, SPLITS, 0), settings, "score", "mean_pool").model.predict(TEST)
    np.testing.assert_allclose(two.iloc[:, 1:], 1.8 * one.iloc[:, 1:] + 32, rtol=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["teacher", "student", *registry.deep_names()])
def test_the_task_reaches_every_parameter(loss: str, name: str) -> None:
    settings = params(loss)
    model = train_baseline(FOLD, params(loss, epochs=1), "score", "mean_pool").model
    prepared = model.spec.preprocessor
    member = registry.entry(name).build(prepared.dims, settings)
    reader = PatientReader(prepared, PATIENTS)
    batch = collate([reader(case) for case in FOLD.learning.cases[:12]], prepared)
    output = member(batch)
    assert output.logits.shape == (12, prepared.dims.outputs)
    losses = TaskObjective(prepared, settings)(batch, output)
    losses.task.backward()
    silent = [n for n, p in member.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    known = [n for n, p in member.named_parameters() if not _reached_by_survival(name, n)]
    assert sorted(set(silent) - set(known)) == []


def _reached_by_survival(name: str, parameter: str) -> bool:
    """Whether the survival task reaches a parameter: a number must reach no fewer."""
    return parameter in REACHED.setdefault(name, _survival_parameters(name))


REACHED: dict[str, set[str]] = {}


def _survival_parameters(name: str) -> set[str]:
    from dml.data.preprocessing import Preprocessor

    prepared = Preprocessor.fit(FOLD.learning, PARAMS, "survival")
    member = registry.entry(name).build(prepared.dims, PARAMS)
    reader = PatientReader(prepared, PATIENTS)
    batch = collate([reader(case) for case in FOLD.learning.cases[:12]], prepared)
    TaskObjective(prepared, PARAMS)(batch, member(batch)).task.backward()
    return {n for n, p in member.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_an_unknown_number_does_not_count() -> None:
    logits, value = torch.randn(5, 3), torch.randn(5)
    known = torch.tensor([True, True, False, True, False])
    changed = torch.where(known, value, value + 100)
    one, two = (NumberTarget(numbers, known) for numbers in (value, changed))
    assert task_loss(logits, one) == task_loss(logits, two)
    assert task_loss(logits, one, cox_weight=0.5) == task_loss(logits, one)
    assert log_likelihood(logits, one)[~known].tolist() == [0, 0]
    expected = task_loss(logits[known], NumberTarget(value[known], known[known]))
    torch.testing.assert_close(task_loss(logits, one), expected)


def test_distillation_compares_standardised_predictions_at_any_temperature() -> None:
    teacher, student = torch.tensor([[1.0, 0.2, 0.2]]), torch.tensor([[-0.5, 0.2, 0.2]])
    assert float(prediction_divergence(teacher, student, 2.0, "regression")) == pytest.approx(1.5**2)
    assert float(prediction_divergence(teacher, student, 7.0, "regression")) == pytest.approx(1.5**2)
    assert float(prediction_divergence(teacher, teacher, 2.0, "regression")) == 0


def test_the_linear_offset_moves_the_number_and_leaves_the_width() -> None:
    offset = config.LinearOffset(components=4, tasks="all")
    settings = change(params(epochs=1, learning_rate=1e-9, ensemble_size=3), model={"linear_offset": offset})
    rows, _ = predict_fold(train_teacher(FOLD, settings, "score"), FOLD, TEST, "teacher")
    width = (rows["value_upper"] - rows["value_lower"]).to_numpy()
    assert scores(rows)["r2"] > 0.4
    assert width.std() < 0.2 * width.mean()


def test_late_fusion_with_age_keeps_a_good_number(trained) -> None:
    _, teacher, _ = trained
    rows, _ = predict_fold(teacher, FOLD, TEST, "teacher")
    fused = fit_late_fusion("teacher", rows, PATIENTS, make_regression("score", PATIENTS.classes, ()))
    check_predictions("fused", fused.rows.assign(fold=0), fused.metadata)
    assert scores(fused.rows.assign(fold=0))["r2"] > scores(rows)["r2"] - 0.15


def test_a_constant_number_and_one_that_is_not_finite_are_refused() -> None:
    for value, message in ((3.0, "have the number 3"), (np.inf, "not finite")):
        cases = tuple(replace(case, values={"score": value}) for case in PATIENTS.cases)
        with pytest.raises(InputError, match=message):
            train_teacher(make_fold(replace(PATIENTS, cases=cases), SPLITS, 0), params(epochs=1), "score")


def test_patients_without_a_number_are_not_predicted_against_one() -> None:
    cases = tuple(replace(c, values={}) if i % 3 == 0 else c for i, c in enumerate(PATIENTS.cases))
    some = replace(PATIENTS, cases=cases)
    model = train_baseline(make_fold(some, SPLITS, 0), params(epochs=1), "score", "mean_pool")
    rows, _ = predict_fold(model, make_fold(some, SPLITS, 0), select_test_patients(some, SPLITS, 0), "mean_pool")
    known = {case.patient_id for case in cases if case.values}
    assert set(rows["patient_id"]) <= known
    assert rows["target"].notna().all()
