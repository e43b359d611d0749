"""Distillation: the right likelihood per task, embeddings matched by name (faults 5 and 6)."""

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from dml.core.types import ModelOutput
from dml.training.distillation import DistillationTargets, shuffle_expression, shuffle_targets
from dml.training.loss_terms.distillation import feature_distance, mean_over_targets, prediction_divergence
from tests.synthetic import cohort


def targets(tumor: Tensor, tme: Tensor, has_target: list[bool]) -> DistillationTargets:
    logits = torch.arange(len(tumor)).float()[:, None]
    return DistillationTargets({"tumor": tumor, "tme": tme}, logits, torch.tensor(has_target))


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


def test_embeddings_are_matched_by_their_names() -> None:
    tumor, tme = torch.randn(2, 5), torch.randn(2, 5)
    right, swapped = (ModelOutput({"tumor": a, "tme": b}, torch.zeros(2, 1)) for a, b in ((tumor, tme), (tme, tumor)))
    assert feature_distance(targets(tumor, tme, [True, True]), right).abs().max() == 0
    assert (feature_distance(targets(tumor, tme, [True, True]), swapped) > 0.1).all()


def test_only_patients_with_a_target_count() -> None:
    some, none = (targets(torch.zeros(3, 1), torch.zeros(3, 1), known) for known in ([True, False, True], [False] * 3))
    assert float(mean_over_targets(torch.tensor([1.0, 100.0, 3.0]), some)) == 2.0
    assert float(mean_over_targets(torch.tensor([1.0, 100.0, 3.0]), none)) == 0.0


def test_the_control_gives_every_patient_the_target_of_another() -> None:
    own = {f"P{i}": targets(torch.full((1, 1), float(i)), torch.zeros(1, 1), [i != 3]) for i in range(6)}
    shuffled = shuffle_targets(own, seed=1)
    assert shuffled["P3"] is own["P3"], "it has no target"
    others = {patient: float(target.embeddings["tumor"]) for patient, target in shuffled.items() if patient != "P3"}
    assert all(value != float(patient[1:]) for patient, value in others.items())
    assert sorted(others.values()) == [0, 1, 2, 4, 5]


def test_the_control_of_completed_genes_has_the_transcriptome_of_another_patient() -> None:
    data = cohort(12, absent=3)
    shuffled = shuffle_expression(data, seed=1)
    measured = [case.expression for case in data.cases if case.has_expression]
    taken = []
    for before, after in zip(data.cases, shuffled.cases, strict=True):
        assert (before.patient_id, before.bags, before.survival) == (after.patient_id, after.bags, after.survival)
        assert before.has_expression == after.has_expression
        if before.has_expression:
            assert after.expression is not before.expression
            taken.append(next(i for i, genes in enumerate(measured) if genes is after.expression))
    assert sorted(taken) == list(range(9)), "each is given once"
