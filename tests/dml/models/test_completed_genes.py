"""The frozen teacher with sampled genes: what is trained, what is averaged, and what its samples depend on."""

from dataclasses import replace

import pytest
import torch

from dml.config import params as config
from dml.core.types import Batch, Expression
from dml.models.completed_genes import SAMPLES, CompletedGenesStudent, average_logits
from dml.models.teacher import Teacher
from tests.behaviour import row
from tests.synthetic import DIMS, batch

SMALL = config.Model(width=16, heads=2, n_queries=3, gene_width=8, dropout=0.1)


def completing(kind: str = "survival", outputs: int = 4) -> CompletedGenesStudent:
    """A student with the weights of a teacher, and the scale of the genes of some patients."""
    torch.manual_seed(3)
    dims = DIMS.model_copy(update={"kind": kind, "outputs": outputs})
    student = CompletedGenesStudent(dims, SMALL, config.Teacher())
    student.load_teacher(Teacher(dims, SMALL, config.Teacher()))
    student.fit_scale(batch([(1, 1)] * 40, seed=9).expression)
    return student.eval()


def swapped(data: Batch) -> Batch:
    """The slides of the patients in the opposite order, everything else as it is."""
    levels = tuple(
        replace(
            level,
            tokens=level.tokens.flip(0),
            mask=level.mask.flip(0),
            coords_um=level.coords_um.flip(0),
            parent=None if level.parent is None else level.parent.flip(0),
        )
        for level in data.levels
    )
    return replace(data, levels=levels)


def test_the_loss_reaches_all_of_the_velocity_and_nothing_of_the_teacher() -> None:
    student = completing().train()
    output = student(batch([(8, 3), (5, 2), (4, 4)]))
    assert set(output.terms) == {"flow_matching"}
    assert not output.logits.requires_grad
    output.terms["flow_matching"].backward()
    for name, parameter in student.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == name.startswith("velocity."), name
    assert not student.teacher.training


def test_embeddings_of_measured_genes_have_unit_scale() -> None:
    student, data = completing(), batch([(1, 1)] * 40, seed=9)
    scaled = (student.measured_embeddings(data) - student.centre) / student.deviation
    torch.testing.assert_close(scaled.mean(0), torch.zeros(32), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(32), atol=1e-4, rtol=0.0)


def test_a_single_sample_predicts_as_the_teacher_with_these_embeddings() -> None:
    student, data = completing(), batch([(8, 3), (5, 2)])
    sampled = student.sample_embeddings(data)
    assert sampled.shape == (SAMPLES, 2, 32)
    for genes, output in zip(sampled, student.sample_outputs(data), strict=True):
        alone = student.teacher.predict(data, dict(zip(("tumor", "tme"), genes.chunk(2, -1), strict=True)))
        torch.testing.assert_close(output.logits, alone.logits)


@pytest.mark.parametrize("kind", ["survival", "classification", "regression"])
def test_predictions_are_averaged_not_logits(kind: str) -> None:
    student, data = completing(kind, 3), batch([(8, 3), (5, 2)])
    logits = torch.stack([output.logits for output in student.sample_outputs(data)])
    mean = student(data).logits
    if kind == "survival":
        curves = torch.cumprod(1 - torch.sigmoid(logits), -1)
        torch.testing.assert_close(torch.cumprod(1 - torch.sigmoid(mean), -1), curves.mean(0), atol=1e-5, rtol=1e-4)
    elif kind == "classification":
        torch.testing.assert_close(torch.softmax(mean, -1), torch.softmax(logits, -1).mean(0))
    else:
        torch.testing.assert_close(mean, logits.mean(0))
    predictions = {
        "survival": lambda: torch.cumprod(1 - torch.sigmoid(logits), -1),
        "classification": lambda: torch.softmax(logits, -1),
        "regression": lambda: logits,
    }[kind]()
    deviation = student.sample_deviation(data)
    torch.testing.assert_close(deviation, predictions.std(0, correction=0), atol=1e-5, rtol=1e-3)
    assert bool((deviation > 0).all())


def test_hazards_of_almost_nothing_and_almost_one_stay_finite() -> None:
    mean = average_logits(torch.tensor([[[-40.0, 40.0]], [[-40.0, 40.0]]]), "survival")
    assert bool(torch.isfinite(mean).all())


def test_the_same_slide_has_the_same_prediction_in_any_batch() -> None:
    student, data = completing(), batch([(8, 3), (5, 2), (1, 1)])
    together = student(data)
    assert torch.equal(student(data).logits, together.logits)
    for i in range(3):
        torch.testing.assert_close(student(row(data, i)).logits[0], together.logits[i], atol=1e-5, rtol=1e-4)


def test_transcriptomes_are_ignored() -> None:
    student, data = completing(), batch([(8, 3), (5, 2)])
    absent = Expression(data.expression.tumor * 0, data.expression.tme * 0, torch.zeros(2, dtype=torch.bool))
    assert torch.equal(student(replace(data, expression=absent)).logits, student(data).logits)


def test_samples_follow_the_slide() -> None:
    student, data = completing(), batch([(8, 3), (5, 2)])
    with torch.no_grad():
        own, other = student.sample_embeddings(data), student.sample_embeddings(swapped(data))
    torch.testing.assert_close(other.flip(1), own, atol=1e-4, rtol=1e-3)
    assert float((own - other).norm(dim=-1).min()) > 1e-3
