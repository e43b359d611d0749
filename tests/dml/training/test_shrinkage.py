"""The weights of network and linear reference follow the evidence, and what is applied is what was fitted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dml.attribution.attribute import attribute
from dml.config import params as config
from dml.core.types import ClassTarget, NumberTarget, SurvivalTarget, Target
from dml.data.batches import collate
from dml.models.likelihoods import log_likelihood
from dml.training.checkpoint import FoldModel
from dml.training.cross_fitted_epoch import divide, strata_of
from dml.training.folds import select_test_patients
from dml.training.out_of_fold import OutOfFold, variance_ratio
from dml.training.shrinkage import (
    LEVEL_DEVIATION,
    MIN_NETWORK,
    SHIFT_DEVIATION,
    Shrinkage,
    fit_shrinkage,
    level_penalty,
)
from dml.training.train import distill_student, train_teacher
from tests.synthetic import PARAMS, change, cohort, fold, splits

PATIENTS, DEVIATION = 2000, 0.2
LINEAR = change(
    PARAMS, model={"linear_offset": config.LinearOffset(components=4)}, optimisation={"epochs": 3, "ensemble_size": 3}
)


def simulate(kind: str, score: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, Target]:
    """Base logits, and outcomes of which a score is the log-odds, or the mean."""
    known = torch.ones(len(score), dtype=torch.bool)
    if kind == "survival":
        base = torch.tensor([-1.5, -1.0, -0.5])
        hazards = torch.sigmoid(base + score[:, None])
        died = torch.rand(hazards.shape, generator=random) < hazards
        event = died.any(1)
        bins = torch.where(event, died.float().argmax(1), 2)
        return base, SurvivalTarget(bins, event, bins + 1.0, known)
    if kind == "classification":
        label = (torch.rand(len(score), generator=random) < torch.sigmoid(2 * score)).long()
        return torch.zeros(2), ClassTarget(label, known)
    value = score + torch.randn(len(score), generator=random)
    return torch.tensor([0.0, 0.0]), NumberTarget(value, known)


def as_logits(kind: str, base: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    """A score as the deviation of logits from the base rates."""
    direction = {"survival": [1.0, 1.0, 1.0], "classification": [-1.0, 1.0], "regression": [1.0, 0.0]}[kind]
    return base + score[:, None] * torch.tensor(direction)


@pytest.mark.parametrize("kind", ["survival", "classification", "regression"])
@pytest.mark.parametrize(("network_knows", "linear_knows"), [(True, False), (False, True), (False, False)])
def test_weights_follow_the_evidence(kind: str, network_knows: bool, linear_knows: bool) -> None:
    random = torch.Generator().manual_seed(3)
    truth, noise, other = torch.randn(3, PATIENTS, generator=random)
    base, target = simulate(kind, truth, random)
    head = as_logits(kind, base, truth if network_knows else noise)
    offset = as_logits(kind, torch.zeros_like(base), truth if linear_knows else other)
    fitted = fit_shrinkage(head, offset, base, target, DEVIATION)
    assert fitted.network == pytest.approx(0.95 if network_knows else 0.03, abs=0.12)
    assert fitted.linear == pytest.approx(1.0 if linear_knows else 0.08, abs=0.12)
    assert abs(fitted.level[: len(base) - (kind == "regression")]).max() < 0.3, "but for the width of a number"


def test_without_patients_the_linear_reference_is_trusted() -> None:
    base, target = simulate("survival", torch.zeros(0), torch.Generator())
    fitted = fit_shrinkage(torch.zeros(0, 3), torch.zeros(0, 1), base, target, DEVIATION)
    assert (fitted.network, fitted.linear) == (pytest.approx(MIN_NETWORK), pytest.approx(1.0))


def test_as_many_deaths_are_expected_as_were_seen_however_wide_the_predictions() -> None:
    random = torch.Generator().manual_seed(5)
    truth = 1.5 * torch.randn(PATIENTS, generator=random) - 2.0  # few die in a bin
    _, target = simulate("survival", truth, random)
    assert isinstance(target, SurvivalTarget)
    passed = torch.arange(3) <= target.bin[:, None]
    died = target.event[:, None] & (torch.arange(3) == target.bin[:, None])
    rates = died.sum(0) / passed.sum(0)
    base, offset = torch.logit(rates), truth[:, None] - truth.mean()
    fitted = fit_shrinkage(base.expand(PATIENTS, 3), offset, base, target, DEVIATION)

    def expected(logits: torch.Tensor) -> float:
        return float((torch.sigmoid(logits) * passed).sum() / target.event.sum())

    assert expected(base + offset) > 1.1, "base rates and a good predictor together expect too many"
    assert expected(fitted(base.expand(PATIENTS, 3), offset, base)) == pytest.approx(1.0, abs=0.03)


def test_the_prior_of_the_level_is_a_gaussian_with_a_shared_part() -> None:
    level = torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    each, shared = LEVEL_DEVIATION["survival"] ** 2, SHIFT_DEVIATION["survival"] ** 2
    covariance = each * torch.eye(3, dtype=torch.float64) + shared * torch.ones(3, 3, dtype=torch.float64)
    expected = level @ torch.linalg.inv(covariance) @ level / 2
    assert float(level_penalty(level, "survival")) == pytest.approx(float(expected), rel=1e-9)
    assert float(level_penalty(level, "classification")) == pytest.approx(float(level.square().sum()) / (2 * each))


def test_a_network_that_copies_the_linear_model_shares_its_weight() -> None:
    random = torch.Generator().manual_seed(4)
    truth = torch.randn(PATIENTS, generator=random)
    base, target = simulate("survival", truth, random)
    fitted = fit_shrinkage(as_logits("survival", base, truth), truth[:, None], base, target, DEVIATION)
    assert fitted.network + fitted.linear == pytest.approx(1.0, abs=0.1)


def test_the_likelihood_of_the_fit_is_not_below_that_of_the_linear_reference() -> None:
    random = torch.Generator().manual_seed(5)
    truth, noise = torch.randn(2, 300, generator=random)
    base, target = simulate("survival", truth, random)
    head, offset = as_logits("survival", base, truth + noise), 0.5 * truth[:, None]
    fitted = fit_shrinkage(head, offset, base, target, DEVIATION)
    assert log_likelihood(fitted(head, offset, base), target).sum() > log_likelihood(base + offset, target).sum()


def test_a_larger_prior_deviation_follows_the_data_further() -> None:
    random = torch.Generator().manual_seed(6)
    truth = torch.randn(60, generator=random)
    base, target = simulate("survival", truth, random)
    head = as_logits("survival", base, truth)
    weights = [fit_shrinkage(head, torch.zeros(60, 1), base, target, s).network for s in (0.05, 0.2, 1.0)]
    assert weights == sorted(weights)
    assert weights[0] < 0.3 < weights[2]


@pytest.fixture(scope="module")
def trained() -> tuple[FoldModel, FoldModel, FoldModel]:
    """A teacher as trained, the same one shrunk, and a student of it."""
    data = cohort(90)
    as_trained = change(LINEAR, optimisation={"shrinkage": None})
    raw, shrunk = (train_teacher(fold(data), params, "survival").model for params in (as_trained, LINEAR))
    return raw, shrunk, distill_student(fold(data), LINEAR, "survival", shrunk).model


def test_the_shrunk_network_predicts_the_weighted_logits(trained: tuple[FoldModel, FoldModel, FoldModel]) -> None:
    """At one magnification, where the certainty of magnifications does not matter."""
    data = cohort(90)
    single = change(LINEAR.model_copy(update={"tiles": config.Tiles(mpps=(0.5,))}))
    as_trained = change(single, optimisation={"shrinkage": None})
    raw, shrunk = (train_teacher(fold(data), params, "survival").model for params in (as_trained, single))
    linear = [next(iter(m.spec.linear_offset.slopes.values())) for m in (raw, shrunk)]
    base = torch.from_numpy(raw.spec.preprocessor.base_logits)
    first = [model.members[0].head for model in (raw, shrunk)]
    weight = float((first[1].weights[0] / first[0].weights[0]).detach().median())
    level = (first[1].bias - weight * first[0].bias - (1 - weight) * base).detach()
    applied = Shrinkage(weight, linear[1] / linear[0], level)
    read = raw.reader(data)
    batch = collate([read(case) for case in data.cases[:10]], raw.spec.preprocessor)
    other = collate([shrunk.reader(data)(case) for case in data.cases[:10]], shrunk.spec.preprocessor)
    with torch.no_grad():
        before, after = raw.members[0](batch).logits, shrunk.members[0](other).logits
    torch.testing.assert_close(applied(before - batch.offset, batch.offset, base), after, atol=1e-3, rtol=1e-3)


def test_no_out_of_fold_prediction_has_weights_fitted_to_its_own_outcome(
    trained: tuple[FoldModel, FoldModel, FoldModel],
) -> None:
    """Turning one patient's outcome changes the predictions of the other half alone."""
    random, preprocessor = torch.Generator().manual_seed(6), trained[0].spec.preprocessor
    base = torch.from_numpy(preprocessor.base_logits)
    truth = torch.randn(60, generator=random)
    ids, bins = tuple(f"p{i}" for i in range(60)), torch.arange(60) % len(base)
    event = torch.arange(60) % 3 > 0
    target = SurvivalTarget(bins, event, bins + 0.5, torch.ones(60, dtype=torch.bool))
    turned = SurvivalTarget(bins.index_fill(0, torch.tensor([7]), 0), event, target.exposure, target.known)
    head = base + truth[:, None]
    before, after = (
        OutOfFold(ids, head, truth[:, None], 0.0, outcome, preprocessor).shrunk(DEVIATION, 1).logits
        for outcome in (target, turned)
    )
    half = divide(strata_of(target), 1)
    same = (before == after).all(1)
    assert same[half == half[7]].all()
    assert not same[half != half[7]].any()


def test_the_mean_of_members_has_a_larger_weight_than_one_member() -> None:
    random = torch.Generator().manual_seed(7)
    truth, noise = torch.randn(1, 500, 1, generator=random), torch.randn(5, 500, 1, generator=random)
    heads = truth + noise
    assert variance_ratio(heads) == pytest.approx(2 / 1.2, rel=0.1)
    assert variance_ratio(truth.expand(5, -1, -1)) == 1.0


def test_saved_and_loaded_the_shrunk_model_is_the_same(
    trained: tuple[FoldModel, FoldModel, FoldModel], tmp_path: Path
) -> None:
    data = cohort(90)
    for i, model in enumerate(trained[1:]):
        model.save(tmp_path / str(i))
        pd.testing.assert_frame_equal(FoldModel.load(tmp_path / str(i)).predict(data), model.predict(data))


def test_contributions_still_add_up(trained: tuple[FoldModel, FoldModel, FoldModel]) -> None:
    data = cohort(90)
    for model in trained[1:]:
        result = attribute([model], data.subset({data.cases[0].patient_id}))
        np.testing.assert_allclose(result.residual, 0, atol=1e-2)


def test_out_of_fold_predictions_are_of_all_validated_patients() -> None:
    data = cohort(60)
    result = train_teacher(fold(data), LINEAR, "survival")
    assert sorted(result.out_of_fold["patient_id"]) == sorted(fold(data).inner_fold_of)
    tested = {case.patient_id for case in select_test_patients(data, splits(data), 0).cases}
    assert not tested & set(result.out_of_fold["patient_id"])
    assert result.validation_loss > 0
