"""The linear offset: its predictions, that it is cross-fitted, and that noise shrinks it to nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dml.config import params as config
from dml.core.types import Cohort, Source, Survival
from dml.data.augmentation import drop_tokens_and_genes
from dml.data.batches import collate
from dml.data.linear_offset import LinearMap, LinearModel, LinearOffset
from dml.data.patient_reader import PatientReader
from dml.training.checkpoint import FoldModel
from dml.training.fit_offset import SOURCES, ClassOutcomes, _join, _variance_ratio, fit_linear_offset, read_outcomes
from dml.training.folds import make_fold, select_test_patients
from dml.training.train import distill_student, train_teacher
from tests.synthetic import PARAMS, change, cohort, concordance, fold, splits

LINEAR = change(
    PARAMS,
    model={"linear_offset": config.LinearOffset(components=5, tasks="all")},
    optimisation={"epochs": 1, "learning_rate": 1e-9, "ensemble_size": 3},
)
SOURCE_NAMES: tuple[Source, ...] = ("slide", "genes")
AS_TRAINED = change(LINEAR, optimisation={"shrinkage": None})


def columns(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ten columns, and an outcome that the first two decide."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 10))
    return x, 1.5 * x[:, 0] - x[:, 1] + 0.5 * rng.normal(size=n)


def test_it_finds_a_linear_effect_and_shrinks_noise_to_nothing() -> None:
    x, score = columns(300)
    label = np.where(score > 0, "b", "a").tolist()
    parts = [i % 5 for i in range(300)]
    rows = {"slide": x, "genes": np.full((300, 3), np.nan)}
    offset = fit_linear_offset(rows, parts, (("slide", "genes"), ("slide",)), ClassOutcomes(label, "ab"), 10)
    assert set(offset.models) == {"slide"}, "nobody has genes"
    assert offset.slopes["slide"] > 0.8
    new, truth = columns(200, seed=1)
    predicted = offset({"slide": new, "genes": np.full((200, 3), np.nan)}, [None] * 200)
    assert ((predicted[:, 1] > predicted[:, 0]) == (truth > 0)).mean() > 0.8
    shuffled = np.random.default_rng(0).permutation(label).tolist()
    nothing = fit_linear_offset(rows, parts, (("slide",),), ClassOutcomes(shuffled, "ab"), 10)
    noise = nothing({"slide": new, "genes": np.full((200, 3), np.nan)}, [None] * 200)
    assert noise.std() < 0.2 * predicted.std()


def test_the_offset_of_a_training_patient_does_not_use_its_outcome() -> None:
    data = cohort(90)
    whole = fold(data)
    one = next(iter(whole.validation(1).cases))
    turned = tuple(replace(c, survival=Survival(9000.0, False)) if c is one else c for c in data.cases)
    starts = [_offset_of(one.patient_id, d) for d in (data, replace(data, cases=turned))]
    np.testing.assert_array_equal(*starts)


def _offset_of(patient: str, data: Cohort) -> np.ndarray:
    whole = fold(data)
    params = change(LINEAR, optimisation={"ensemble_size": 1})
    spec = train_teacher(whole, params, "survival").model.spec
    read = PatientReader(spec.preprocessor, data, spec.linear_offset, whole.inner_fold_of)
    raw = read(next(c for c in data.cases if c.patient_id == patient)).offset_without_genes
    slope = spec.linear_offset.slopes["slide"]  # one number over everybody: it alone has seen the outcome
    return np.round(raw / slope, 4)


def test_before_training_the_network_predicts_what_the_linear_model_predicts() -> None:
    """A learning rate of almost zero: risk is ordered as by the linear model."""
    data = cohort(150)
    trained = train_teacher(fold(data), LINEAR, "survival")
    model = trained.model
    test = select_test_patients(data, splits(data), 0)
    read = PatientReader(model.spec.preprocessor, data, model.spec.linear_offset)
    linear = pd.DataFrame(
        {"patient_id": [c.patient_id for c in test.cases], "risk": [read(c).offset[0] for c in test.cases]}
    )
    assert concordance(linear, test) > 0.65
    assert concordance(model.predict(test), test) > concordance(linear, test) - 0.05
    rows = trained.out_of_fold
    assert sorted(rows["patient_id"]) == sorted(fold(data).inner_fold_of)


def test_saved_and_loaded_it_is_the_same(tmp_path) -> None:
    data = cohort(120, absent=12)
    for task in ("survival", "grade"):
        model = train_teacher(fold(data), LINEAR, task).model
        assert set(model.spec.linear_offset.models) == {"slide+genes", "slide", "genes"}
        model.save(tmp_path / task)
        pd.testing.assert_frame_equal(FoldModel.load(tmp_path / task).predict(data), model.predict(data))


def test_labels_have_no_offset_unless_asked_for() -> None:
    only_survival = change(AS_TRAINED, model={"linear_offset": config.LinearOffset(components=5)})
    data = cohort(90)
    assert train_teacher(fold(data), only_survival, "grade").model.spec.linear_offset is None
    assert train_teacher(fold(data), AS_TRAINED, "grade").model.spec.linear_offset is not None


def test_a_hidden_transcriptome_is_hidden_from_the_offset_too() -> None:
    data = cohort(120)
    model = train_teacher(fold(data), LINEAR, "survival").model
    assert {"slide+genes", "slide"} <= set(model.spec.linear_offset.models)
    read = model.reader(data)
    patients = [read(case) for case in data.cases[:16]]
    bare = [read(replace(case, expression=None)) for case in data.cases[:16]]
    batch = collate(patients, model.spec.preprocessor)
    torch.manual_seed(0)
    hidden = drop_tokens_and_genes(batch, token_dropout=0.0, modality_dropout=0.5)
    gone = ~hidden.expression.present.numpy()
    assert 0 < gone.sum() < 16
    for i in range(16):
        expected = bare[i].offset if gone[i] else patients[i].offset
        np.testing.assert_array_equal(hidden.offset[i].numpy(), expected)


@pytest.mark.parametrize("inputs", SOURCES)
def test_a_patient_without_the_sources_has_no_offset(inputs: tuple[Source, ...]) -> None:
    data = cohort(120)
    cases = fold(data).learning.cases
    model = train_teacher(fold(data), PARAMS, "survival").model
    ages = np.array([[case.covariates.get("age", np.nan)] for case in cases])
    rows = {**model.reader(data).source_rows(cases), "clinical": ages}
    outcomes = read_outcomes(cases, model.spec.preprocessor)
    offset = fit_linear_offset(rows, [i % 3 for i in range(len(cases))], SOURCES[inputs], outcomes, 4)
    empty = {source: np.full_like(values[:2], np.nan) for source, values in rows.items()}
    np.testing.assert_array_equal(offset(empty, [None, 1]), np.zeros((2, 1)))


def test_it_is_off_without_assign_inner_folds_to_cross() -> None:
    data = cohort(30)
    one_part = splits(data)
    one_part["inner_fold"] = np.where(one_part["role"] == "validation", 0, -1)
    params = LINEAR.model_copy(update={"optimisation": config.Optimisation(epochs=1, device="cpu")})
    assert train_teacher(make_fold(data, one_part, 0), params, "survival").model.spec.linear_offset is None


def test_a_student_need_not_have_an_offset_as_its_teacher_has() -> None:
    data = cohort(90)
    off = change(AS_TRAINED, distillation={"use_linear_offset": False})
    taught = train_teacher(fold(data), off, "survival").model
    assert taught.spec.linear_offset is not None
    on = change(AS_TRAINED, distillation={"use_linear_offset": True})
    started, free = (distill_student(fold(data), params, "survival", taught).model for params in (on, off))
    assert started.spec.linear_offset is not None
    assert free.spec.linear_offset is None


def test_the_mean_of_the_models_is_calibrated_as_one_of_them_is() -> None:
    """Noisy models: the mean of their predictions varies less, and the factor gives back what its slope would be."""
    random = np.random.default_rng(8)
    truth = random.normal(size=(4000, 1))
    maps = [
        LinearMap(low=np.full(6, -np.inf), high=np.full(6, np.inf), mean=np.zeros(6), weight=w[:, None])
        for w in np.concatenate([np.ones((5, 1)), random.normal(size=(5, 5))], axis=1)
    ]
    models = tuple(LinearModel(maps={"slide": m}, bias=np.zeros(1)) for m in maps)
    rows = {"slide": np.concatenate([truth, random.normal(size=(4000, 5))], axis=1)}
    single = np.stack([model(rows)[:, 0] for model in models])
    slope = float(np.mean([np.cov(each, truth[:, 0])[0, 1] for each in single]) / single.var(axis=1).mean())
    fitted = LinearOffset(models={"slide": models}, slopes={"slide": slope}, outputs=1)
    ratio = _variance_ratio(models, rows)
    adjusted = fitted.model_copy(update={"variance_ratios": {"slide": ratio}})
    nobody = [None] * 4000
    plain, corrected = (offset(rows, nobody)[:, 0] for offset in (fitted, adjusted))
    assert ratio > 1.5
    assert np.polyfit(plain, truth[:, 0], 1)[0] > 1.4
    assert np.polyfit(corrected, truth[:, 0], 1)[0] == pytest.approx(1.0, abs=0.2)
    np.testing.assert_array_equal(adjusted(rows, [0] * 4000), fitted(rows, [0] * 4000))  # training patients


def test_a_source_that_tells_nothing_is_left_out_of_the_sum() -> None:
    x, score = columns(300)
    noise = np.random.default_rng(9).normal(size=(300, 12))
    label = np.where(score + 1.5 * np.random.default_rng(5).normal(size=300) > 0, "b", "a").tolist()
    parts, outcomes = [i % 5 for i in range(300)], ClassOutcomes(label, "ab")
    offset = fit_linear_offset({"slide": x, "genes": noise}, parts, SOURCES["slide", "genes"], outcomes, 12)
    maps = [model.maps for model in offset.models["slide+genes"]]
    told, nothing = (np.mean([np.abs(m[s].weight).mean() for m in maps]) for s in ("slide", "genes"))
    assert nothing < 0.25 * told
    slopes = offset.slopes["slide+genes"], offset.slopes["slide"]
    rows = {"slide": x, "genes": noise}
    losses = [
        outcomes.loss(offset({**rows, "genes": genes}, parts).astype(float), outcomes.known)
        for genes in (noise, np.nan * noise)
    ]
    assert losses[0] < losses[1] + 1, f"no worse than the slide alone, slopes {slopes}"


def test_models_that_scale_alike_join_to_their_weighted_sum() -> None:
    random = np.random.default_rng(2)
    scales = {
        s: {"low": np.full(4, -1.5), "high": np.full(4, 1.5), "mean": random.normal(size=4)} for s in SOURCE_NAMES
    }
    parts = [
        LinearModel(
            maps={s: LinearMap(**scales[s], weight=random.normal(size=(4, 2))) for s in names},
            bias=random.normal(size=2),
        )
        for names in (SOURCE_NAMES, SOURCE_NAMES[:1], SOURCE_NAMES[1:])
    ]
    weights = np.array([0.2, 0.7, 1.1])
    rows = {s: random.normal(size=(6, 4)) for s in SOURCE_NAMES}
    expected = sum(w * part({s: rows[s] for s in part.maps}) for w, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(_join(parts, weights)(rows), expected)
