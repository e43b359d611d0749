"""Behaviour of teacher and student: what must not matter does not, what must matter does, everything learns."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dml.config import params as config
from dml.core.types import SUBSPACES
from dml.models.completed_genes import CompletedGenesStudent
from dml.models.gene_imputation import GeneImputationStudent
from dml.models.student import Student
from dml.models.teacher import Teacher
from tests.behaviour import padded, permuted, row, same
from tests.synthetic import DIMS, batch

SMALL = config.Model(width=16, heads=2, n_queries=3, gene_width=8, dropout=0.1)


def teacher(**options: object) -> Teacher:
    return Teacher(DIMS, SMALL, config.Teacher(**options)).eval()


def student(aggregation: str = "subspace_queries") -> Student:
    return Student(DIMS, SMALL, aggregation).eval()


MODELS = {
    "teacher": teacher,
    "teacher_without_fusion": lambda: teacher(use_fusion=False),
    "teacher_that_predicts_genes": lambda: teacher(consistency_target="expression"),
    "student": student,
    "student_without_aggregation": lambda: student("none"),
    "student_of_density_peaks": lambda: student("density_peaks"),
    "student_that_imputes_genes": lambda: GeneImputationStudent(DIMS, SMALL, config.Teacher()).eval(),
    "student_that_completes_genes": lambda: CompletedGenesStudent(DIMS, SMALL, config.Teacher()).eval(),
}

FROZEN = ("student_that_imputes_genes", "student_that_completes_genes")
"""Their teacher has no gradient."""


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return MODELS[request.param]()


def test_order_of_tokens_does_not_matter(model: nn.Module) -> None:
    data = batch([(8, 3), (5, 2)])
    shuffled = replace(data, levels=tuple(permuted(x, torch.randperm(x.tokens.shape[1])) for x in data.levels))
    same(model(data), model(shuffled))


def test_padding_does_not_matter(model: nn.Module) -> None:
    data = batch([(8, 3), (5, 2)])
    same(model(data), model(replace(data, levels=tuple(padded(x, 4) for x in data.levels))))


def test_neighbours_in_the_batch_do_not_matter(model: nn.Module) -> None:
    data = batch([(8, 3), (5, 2), (1, 1)])
    together = model(data)
    for i in range(3):
        alone = model(row(data, i))
        torch.testing.assert_close(together.logits[i : i + 1], alone.logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sizes", [[(1, 1)], [(1, 0)], [(0, 1)], [(300, 75), (1, 1)]])
def test_any_number_of_tokens_gives_a_finite_answer(model: nn.Module, sizes: list[tuple[int, int]]) -> None:
    output = model(batch(sizes))
    assert torch.isfinite(output.logits).all()
    for s in SUBSPACES:
        for level, attention in zip(batch(sizes).levels, output.attention[s], strict=True):
            sums = attention.sum(1)
            torch.testing.assert_close(sums, level.mask.any(1).to(sums.dtype), atol=1e-5, rtol=0)
            assert (attention[~level.mask] == 0).all()


def test_a_magnification_without_tiles_counts_nothing(model: nn.Module) -> None:
    data = batch([(6, 3)])
    without = replace(data.levels[1], mask=torch.zeros_like(data.levels[1].mask))
    other = replace(without, tokens=torch.randn_like(without.tokens))
    same(model(replace(data, levels=(data.levels[0], without))), model(replace(data, levels=(data.levels[0], other))))


def test_same_input_same_output(model: nn.Module) -> None:
    data = batch([(8, 3), (5, 2)])
    assert torch.equal(model(data).logits, model(data).logits)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in FROZEN])
def test_every_parameter_receives_gradient(name: str) -> None:
    model = MODELS[name]().train()
    data = batch([(30, 9), (25, 7), (28, 8), (20, 6)])
    hidden = replace(data.expression, present=torch.tensor([True, True, True, False]))
    output = model(replace(data, expression=hidden))
    predicted = [genes.square().sum() for levels in output.predicted_genes.values() for genes in levels]
    torch.stack([output.logits.square().sum(), *predicted]).sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-7]
    assert dead == []


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_position_matters_where_there_is_one(name: str) -> None:
    model = MODELS[name]()
    data = batch([(20, 5)])
    moved = replace(data, levels=tuple(replace(x, coords_um=x.coords_um.flip(1)) for x in data.levels))
    assert not torch.allclose(model(data).logits, model(moved).logits, atol=1e-6)
    nowhere = tuple(replace(x, has_coords=torch.zeros(1, dtype=torch.bool)) for x in data.levels)
    nowhere_moved = tuple(replace(x, coords_um=x.coords_um.flip(1)) for x in nowhere)
    same(model(replace(data, levels=nowhere)), model(replace(data, levels=nowhere_moved)))


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_moving_or_zooming_the_whole_slide_does_not_matter(name: str) -> None:
    model = MODELS[name]()
    data = batch([(20, 5)])
    moved = replace(data, levels=tuple(replace(x, coords_um=3 * x.coords_um + 7000) for x in data.levels))
    same(model(data), model(moved))


def test_attention_of_the_teacher_depends_on_genes_and_tissue() -> None:
    model, data = teacher(), batch([(20, 5)])
    attention = model(data).attention["tumor"][0]
    genes = model(replace(data, expression=replace(data.expression, tumor=data.expression.tumor + 3)))
    assert not torch.allclose(attention, genes.attention["tumor"][0], atol=1e-6)
    # The reference points of the first tokens move when the tissue elsewhere changes.
    level = data.levels[0]
    tokens = level.tokens.clone()
    tokens[:, 10:] += 5
    tissue = model(replace(data, levels=(replace(level, tokens=tokens), data.levels[1])))
    ratio = tissue.attention["tumor"][0][:, :10] / attention[:, :10]
    assert ratio.std() > 1e-4  # not merely rescaled by the softmax


def test_the_student_ignores_genes() -> None:
    model, data = student(), batch([(8, 3)])
    other = replace(data.expression, tumor=data.expression.tumor + 9, present=~data.expression.present)
    assert torch.equal(model(data).logits, model(replace(data, expression=other)).logits)


def test_absent_genes_are_ignored() -> None:
    model, data = teacher(), batch([(8, 3)])
    absent = replace(data.expression, present=torch.tensor([False]))
    other = replace(absent, tumor=absent.tumor + 9)
    assert torch.equal(model(replace(data, expression=absent)).logits, model(replace(data, expression=other)).logits)


def test_subspaces_keep_their_own_genes() -> None:
    """With a transcriptome change in one subspace, that subspace's token moves more than the other's."""
    model, data = teacher(), batch([(8, 3)])
    before = model(data)
    after = model(replace(data, expression=replace(data.expression, tumor=data.expression.tumor + 1)))
    moved = {s: (after[s] - before[s]).norm() for s in SUBSPACES}
    assert moved["tumor"] > 2 * moved["tme"]
