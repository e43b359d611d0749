"""The linear start: what it says, that it has not seen the outcome of those it starts, and what noise does to it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dml.config import params as config
from dml.core.types import Cohort, Survival
from dml.data.batches import PatientReader
from dml.training.checkpoint import FoldModel
from dml.training.folds import make_fold, predict_out_of_fold, select_test_patients
from dml.training.linear_offset import COMBINATIONS, LinearOffset, Truth, fit_linear_offset, truth_of
from dml.training.train import distill_student, train_teacher
from dml.training.trainer import TrainConfig, drop_tokens_and_genes
from tests.dml.training.test_folds import PARAMS, concordance, fold, splits
from tests.synthetic import cohort

LINEAR = PARAMS.model_copy(
    update={
        "model": PARAMS.model.model_copy(update={"linear_offset": config.LinearOffset(components=5, tasks="all")}),
        "optimisation": PARAMS.optimisation.model_copy(update={"epochs": 1, "learning_rate": 1e-9, "ensemble_size": 3}),
    }
)


def columns(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ten columns, and an outcome that the first two decide."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 10))
    return x, 1.5 * x[:, 0] - x[:, 1] + 0.5 * rng.normal(size=n)


def test_it_finds_a_linear_effect_and_shrinks_noise_to_nothing() -> None:
    x, score = columns(300)
    label = (score > 0).astype(int)
    known = np.ones(300, bool)
    parts = [i % 5 for i in range(300)]
    rows = {"slide": x, "genes": np.full((300, 3), np.nan)}
    found = fit_linear_offset(
        rows, parts, (("slide", "genes"), ("slide",)), Truth(known, label=label, classes="ab"), 10
    )
    assert set(found.models) == {"slide"}, "nobody has genes"
    assert found.slopes["slide"] > 0.8
    new, truth = columns(200, seed=1)
    said = found({"slide": new, "genes": np.full((200, 3), np.nan)}, [None] * 200)
    assert ((said[:, 1] > said[:, 0]) == (truth > 0)).mean() > 0.8
    shuffled = np.random.default_rng(0).permutation(label)
    nothing = fit_linear_offset(rows, parts, (("slide",),), Truth(known, label=shuffled, classes="ab"), 10)
    noise = nothing({"slide": new, "genes": np.full((200, 3), np.nan)}, [None] * 200)
    assert noise.std() < 0.2 * said.std()


def test_a_learning_patient_starts_from_what_has_not_seen_his_outcome() -> None:
    data = cohort(90)
    whole = fold(data)
    one = next(iter(whole.validation(1).cases))
    turned = tuple(replace(c, survival=Survival(9000.0, False)) if c is one else c for c in data.cases)
    starts = [_start_of(one.patient_id, d) for d in (data, replace(data, cases=turned))]
    np.testing.assert_array_equal(*starts)


def _start_of(patient: str, data: Cohort) -> np.ndarray:
    whole = fold(data)
    params = LINEAR.model_copy(update={"optimisation": LINEAR.optimisation.model_copy(update={"ensemble_size": 1})})
    spec = train_teacher(whole, params, "survival").model.spec
    read = PatientReader(spec.preprocessor, data, spec.linear, whole.inner_fold_of)
    raw = read(next(c for c in data.cases if c.patient_id == patient)).start
    slope = spec.linear.slopes["slide+genes"]  # one number over everybody: it alone has seen the outcome
    return np.round(raw / slope, 4)


def test_at_the_start_the_network_says_what_the_linear_model_says() -> None:
    """A learning rate of nothing: risk is ordered as by the linear model, and beats one that starts from nothing."""
    data = cohort(150)
    model = train_teacher(fold(data), LINEAR, "survival").model
    test = select_test_patients(data, splits(data), 0)
    read = PatientReader(model.spec.preprocessor, data, model.spec.linear)
    linear = pd.DataFrame(
        {"patient_id": [c.patient_id for c in test.cases], "risk": [read(c).start[0] for c in test.cases]}
    )
    assert concordance(linear, test) > 0.65
    assert concordance(model.predict(test), test) > concordance(linear, test) - 0.05
    said = predict_out_of_fold(model, fold(data))
    assert sorted(said["patient_id"]) == sorted(fold(data).inner_fold_of)


def test_saved_and_loaded_it_is_the_same(tmp_path) -> None:
    data = cohort(120, absent=12)
    for task in ("survival", "grade"):
        model = train_teacher(fold(data), LINEAR, task).model
        assert set(model.spec.linear.models) == {"slide+genes", "slide", "genes"}
        model.save(tmp_path / task)
        pd.testing.assert_frame_equal(FoldModel.load(tmp_path / task).predict(data), model.predict(data))


def test_labels_start_from_nothing_unless_asked_for() -> None:
    only_survival = LINEAR.model_copy(
        update={"model": LINEAR.model.model_copy(update={"linear_offset": config.LinearOffset(components=5)})}
    )
    data = cohort(40)
    assert train_teacher(fold(data), only_survival, "grade").model.spec.linear is None
    assert train_teacher(fold(data), LINEAR, "grade").model.spec.linear is not None


def test_a_hidden_transcriptome_is_hidden_from_the_start_too() -> None:
    data = cohort(120)
    model = train_teacher(fold(data), LINEAR, "survival").model
    assert {"slide+genes", "slide"} <= set(model.spec.linear.models)
    read = model.reader(data)
    patients = [read(case) for case in data.cases[:16]]
    bare = [read(replace(case, expression=None)) for case in data.cases[:16]]
    from dml.data.batches import collate

    batch = collate(patients, model.spec.preprocessor)
    recipe = TrainConfig(PARAMS.optimisation, seed=0, modality_dropout=0.5)
    torch.manual_seed(0)
    hidden = drop_tokens_and_genes(batch, recipe)
    gone = ~hidden.expression.present.numpy()
    assert 0 < gone.sum() < 16
    for i in range(16):
        expected = bare[i].start if gone[i] else patients[i].start
        np.testing.assert_array_equal(hidden.start[i].numpy(), expected)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_patient_without_the_sources_starts_from_nothing(role: str) -> None:
    data = cohort(120)
    cases = fold(data).learning.cases
    model = train_teacher(fold(data), PARAMS, "survival").model
    rows = model.reader(data).rows(cases)
    truth = truth_of(cases, model.spec.preprocessor)
    found: LinearOffset = fit_linear_offset(rows, [i % 3 for i in range(len(cases))], COMBINATIONS[role], truth, 4)
    empty = {source: np.full_like(values[:2], np.nan) for source, values in rows.items()}
    np.testing.assert_array_equal(found(empty, [None, 1]), np.zeros((2, 1)))


def test_it_is_off_without_assign_inner_folds_to_cross() -> None:
    data = cohort(30)
    one_part = splits(data)
    one_part["inner_fold"] = np.where(one_part["role"] == "validation", 0, -1)
    params = LINEAR.model_copy(update={"optimisation": config.Optimisation(epochs=1, device="cpu")})
    assert train_teacher(make_fold(data, one_part, 0), params, "survival").model.spec.linear is None


def test_a_student_need_not_start_where_its_teacher_does() -> None:
    data = cohort(45)
    off = LINEAR.model_copy(
        update={"distillation": LINEAR.distillation.model_copy(update={"use_linear_offset": False})}
    )
    taught = train_teacher(fold(data), off, "survival").model
    assert taught.spec.linear is not None
    started, free = (distill_student(fold(data), params, "survival", taught).model for params in (LINEAR, off))
    assert started.spec.linear is not None
    assert free.spec.linear is None
