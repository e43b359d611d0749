"""Distillation: the right likelihood per task, tokens matched by name (faults 5 and 6)."""

import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from dml.core.types import ModelOutput
from dml.training.distillation import DistillationTargets, feature_distance, prediction_divergence, taught_mean


def test_hazards_are_distilled_as_bernoulli_variables() -> None:
    p, q = torch.randn(6, 4), torch.randn(6, 4)
    ours = prediction_divergence(p, q, 2.0, "survival")
    torch.testing.assert_close(ours, 4 * kl_divergence(Bernoulli(logits=p / 2), Bernoulli(logits=q / 2)).mean(1))
    assert prediction_divergence(p, p, 2.0, "survival").abs().max() < 1e-6


def test_hazard_distillation_sees_a_common_shift_that_a_softmax_would_not() -> None:
    p = torch.randn(3, 4)
    assert (prediction_divergence(p, p + 2, 1.0, "survival") > 0.1).all()
    assert prediction_divergence(p, p + 2, 1.0, "classification").abs().max() < 1e-6


def test_classes_are_distilled_as_a_categorical_variable() -> None:
    p, q = torch.randn(6, 3), torch.randn(6, 3)
    ours = prediction_divergence(p, q, 3.0, "classification")
    torch.testing.assert_close(ours, 9 * kl_divergence(Categorical(logits=p / 3), Categorical(logits=q / 3)))


def test_tokens_are_matched_by_their_names() -> None:
    tumor, tme = torch.randn(2, 5), torch.randn(2, 5)
    lesson = DistillationTargets(tumor, tme, torch.zeros(2, 1), torch.tensor([True, True]))
    right, swapped = ModelOutput(tumor, tme, torch.zeros(2, 1)), ModelOutput(tme, tumor, torch.zeros(2, 1))
    assert feature_distance(lesson, right).abs().max() == 0
    assert (feature_distance(lesson, swapped) > 0.1).all()


def test_only_the_taught_count() -> None:
    lesson = DistillationTargets(
        torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(3, 1), torch.tensor([True, False, True])
    )
    assert float(taught_mean(torch.tensor([1.0, 100.0, 3.0]), lesson)) == 2.0
    nobody = DistillationTargets(*[torch.zeros(3, 1)] * 3, torch.zeros(3, dtype=torch.bool))
    assert float(taught_mean(torch.tensor([1.0, 100.0, 3.0]), nobody)) == 0.0
