"""Losses against slow twins, and the consistency loss as METHOD wants it (fault 2 of the authors' code)."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter

from dml.core.types import ClassTarget, MagnificationTokens, Mpp, SurvivalTarget
from dml.models.likelihoods import discrete_time_log_likelihood, log_likelihood
from dml.training.loss_terms.consistency import expression_consistency, inter_magnification_consistency
from dml.training.loss_terms.disentanglement import distance_correlation
from dml.training.losses import cox_loss, log_cumulative_hazard, task_loss
from tests import oracles


def survival(bins: list[int], events: list[bool], known: list[bool] | None = None) -> SurvivalTarget:
    return SurvivalTarget(
        torch.tensor(bins),
        torch.tensor(events),
        torch.zeros(len(bins)),
        torch.tensor(known or [True] * len(bins)),
    )


def test_discrete_time_likelihood_is_the_product_of_hazards() -> None:
    logits = torch.randn(40, 5)
    bins, events = torch.randint(0, 5, (40,)), torch.rand(40) < 0.5
    ours = discrete_time_log_likelihood(logits, bins, events)
    hazards = torch.sigmoid(logits.double()).tolist()
    patients = zip(hazards, bins.tolist(), events.tolist(), strict=True)
    slow = [oracles.discrete_time_log_likelihood(*patient) for patient in patients]
    torch.testing.assert_close(ours.double(), torch.tensor(slow, dtype=torch.float64), atol=1e-5, rtol=1e-5)


def test_a_censored_patient_is_not_counted_as_an_event_in_its_bin() -> None:
    """Fault 1: the authors take the censoring bin for the truth."""
    sure_to_die_in_bin_1 = torch.tensor([[-9.0, 9.0, 0.0]])
    died = log_likelihood(sure_to_die_in_bin_1, survival([1], [True])).exp()
    left = log_likelihood(sure_to_die_in_bin_1, survival([1], [False])).exp()
    assert died > 0.99
    assert left < 0.01


def test_the_cox_loss_is_lifelines_partial_likelihood() -> None:
    """At coefficients fitted by lifelines, on times without ties, the two likelihoods are the same number."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"x": rng.normal(size=60), "y": rng.normal(size=60)})
    frame["days"] = rng.exponential(np.exp(-frame["x"])) * 1000
    frame["event"] = rng.random(60) < 0.6
    fitted = CoxPHFitter().fit(frame, "days", "event")
    risk = torch.tensor(frame[["x", "y"]].to_numpy() @ fitted.params_.to_numpy())
    days, event = torch.tensor(frame["days"].to_numpy()), torch.tensor(frame["event"].to_numpy())
    ours = float(cox_loss(risk, days, event)) * int(event.sum())
    assert ours == pytest.approx(-fitted.log_likelihood_, rel=1e-9)
    assert float(cox_loss(risk + 7.0, days, event)) == pytest.approx(ours / int(event.sum())), "only differences count"
    assert float(cox_loss(risk[:0], days[:0], event[:0])) == 0.0


def test_a_share_of_the_cox_loss_mixes_and_reaches_every_logit() -> None:
    logits = torch.randn(12, 4, requires_grad=True)
    target = replace(survival([0, 1, 2, 3] * 3, [True, False, True] * 4), days=torch.arange(12.0))
    pure, none, half = (task_loss(logits, target, cox_weight=share) for share in (1.0, 0.0, 0.5))
    torch.testing.assert_close(half, (pure + none) / 2)
    pure.backward()
    assert (logits.grad.abs() > 0).all()
    risk = log_cumulative_hazard(logits)
    survived = torch.cumprod(1 - torch.sigmoid(logits), 1)[:, -1]
    torch.testing.assert_close(risk, torch.log(-torch.log(survived)), atol=1e-5, rtol=1e-5)


def test_unknown_targets_do_not_count() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    all_known = task_loss(logits[:2], survival([0, 3], [True, False]))
    some = task_loss(logits, survival([0, 3, 2], [True, False, True], [True, True, False]))
    torch.testing.assert_close(all_known, some)
    none = task_loss(logits, survival([0, 3, 2], [True, False, True], [False] * 3))
    assert none == 0
    some.backward()
    assert (logits.grad[2] == 0).all()


def test_class_weights_match_torch() -> None:
    logits, label, weights = torch.randn(9, 3), torch.randint(0, 3, (9,)), torch.tensor([0.5, 1.0, 3.0])
    ours = task_loss(logits, ClassTarget(label, torch.ones(9, dtype=torch.bool)), weights)
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, label, weights))


def fine(parents: list[list[int]]) -> MagnificationTokens:
    parent = torch.tensor(parents)
    b, n = parent.shape
    return MagnificationTokens(
        Mpp(0.5), torch.zeros(b, n, 1), parent > -2, torch.zeros(b, n, 2), torch.ones(b, dtype=torch.bool), parent
    )


def test_identical_maps_of_the_same_tissue_are_consistent() -> None:
    level = fine([[0, 0, 1, 1, 2, 2]])
    coarse = torch.tensor([[0.2, 0.5, 0.3]])
    assert inter_magnification_consistency(coarse.repeat_interleave(2, 1) / 2, coarse, level) < 1e-6


def test_unrelated_maps_are_inconsistent_even_if_alike_across_patients() -> None:
    level = fine([[0, 0, 1, 1, 2, 2]] * 3)
    one, other = torch.tensor([[0.5, 0.5, 0, 0, 0, 0]] * 3), torch.tensor([[0.0, 0.0, 1.0]] * 3)
    torch.testing.assert_close(inter_magnification_consistency(one, other, level), torch.tensor(1.0))


def test_consistency_of_one_patient_is_finite_and_matches_the_slow_twin() -> None:
    level = fine([[0, 2, 1, 1, 2, 0]])
    one, other = torch.rand(1, 6).softmax(1), torch.rand(1, 3).softmax(1)
    summed = [one[0, [0, 5]].sum(), one[0, [2, 3]].sum(), one[0, [1, 4]].sum()]
    expected = oracles.jensen_shannon([float(x) for x in summed], other[0].tolist())
    assert float(inter_magnification_consistency(one, other, level)) == pytest.approx(expected, abs=1e-6)


def test_only_tissue_seen_at_both_magnifications_is_compared() -> None:
    level = fine([[0, 0, -1, -1]])
    a = inter_magnification_consistency(torch.tensor([[0.2, 0.2, 0.3, 0.3]]), torch.tensor([[0.7, 0.3]]), level)
    assert a < 1e-6  # only coarse tile 0 is shared
    nothing_shared = replace(level, parent=torch.full((1, 4), -1))
    assert inter_magnification_consistency(torch.rand(1, 4), torch.rand(1, 2), nothing_shared) == 0


def test_padding_and_unattended_tissue_leave_the_gradient_finite() -> None:
    level = fine([[0, 0, 1, -1], [0, -1, -1, -1]])
    one = torch.tensor([[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], requires_grad=True)
    other = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], requires_grad=True)
    inter_magnification_consistency(one, other, level).backward()
    assert torch.isfinite(one.grad).all()
    assert torch.isfinite(other.grad).all()


def test_consistency_pulls_maps_together() -> None:
    level = fine([[0, 0, 1, 1]])
    scores = torch.tensor([[3.0, 3.0, 0.0, 0.0]], requires_grad=True)
    coarse = torch.tensor([[0.1, 0.9]])
    before = inter_magnification_consistency(scores.softmax(1), coarse, level)
    before.backward()
    after = inter_magnification_consistency((scores - 0.5 * scores.grad).softmax(1), coarse, level)
    assert after < before


def test_distance_correlation_tells_dependence_from_independence(rng: object) -> None:
    x = torch.randn(300, 2)
    assert distance_correlation(x, 2 * x + 1) > 0.99
    assert distance_correlation(x, x.square()) > 0.3  # not linear, and yet dependent
    assert distance_correlation(x, torch.randn(300, 2)) < 0.2
    assert distance_correlation(x[:3], x[:3]) == 0
    assert not math.isnan(float(distance_correlation(torch.ones(8, 2), torch.ones(8, 2))))


def test_expression_consistency_is_zero_for_the_truth_and_compares_magnifications() -> None:
    genes = torch.randn(5, 7)
    present = torch.tensor([True, True, False, True, False])
    other = torch.where(present[:, None], genes, genes + 3.0)
    assert float(expression_consistency([other], genes, present)) == 0.0, "unmeasured genes do not count"
    assert float(expression_consistency([genes, genes], genes, present)) == 0.0
    apart = expression_consistency([genes + 1.0, genes - 1.0], genes, present)
    assert float(apart) == pytest.approx(1.0 + 4.0)
    nobody = expression_consistency([genes], genes + 1, torch.zeros(5, dtype=torch.bool))
    assert float(nobody) == 0.0
