"""Behaviour of teacher and student: what must not matter does not, what must matter does, everything learns."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, MagnificationTokens, ModelOutput
from dml.data.dims import ModelDims
from dml.models.student import Student
from dml.models.teacher import Teacher
from tests.synthetic import TME, TUMOR, WIDTH, batch

SHAPE = ModelDims(
    kind="survival", token_width=WIDTH, levels=2, tumor_genes=len(TUMOR), tme_genes=len(TME), covariates=0, outputs=4
)
SMALL = config.Model(width=16, heads=2, n_queries=3, gene_width=8, dropout=0.1)


def teacher(**options: object) -> Teacher:
    return Teacher(SHAPE, SMALL, config.Teacher(**options)).eval()


def student(aggregation: str = "subspace_queries") -> Student:
    return Student(SHAPE, SMALL, aggregation).eval()


MODELS = {
    "teacher": teacher,
    "teacher_without_fusion": lambda: teacher(fusion=False),
    "teacher_that_tells_genes": lambda: teacher(consistency_reading="expression"),
    "student": student,
    "student_without_aggregation": lambda: student("none"),
    "student_of_density_peaks": lambda: student("density_peaks"),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return MODELS[request.param]()


def permuted(level: MagnificationTokens, order: torch.Tensor) -> MagnificationTokens:
    parent = None if level.parent is None else level.parent[:, order]
    return replace(
        level,
        tokens=level.tokens[:, order],
        mask=level.mask[:, order],
        coords_um=level.coords_um[:, order],
        parent=parent,
    )


def padded(level: MagnificationTokens, extra: int) -> MagnificationTokens:
    b = len(level.tokens)
    noise = torch.randn(b, extra, level.tokens.shape[2]) * 50
    return replace(
        level,
        tokens=torch.cat([level.tokens, noise], 1),
        mask=torch.cat([level.mask, torch.zeros(b, extra, dtype=torch.bool)], 1),
        coords_um=torch.cat([level.coords_um, torch.randn(b, extra, 2) * 1e4], 1),
        parent=None if level.parent is None else torch.cat([level.parent, torch.full((b, extra), -1)], 1),
    )


def same(a: ModelOutput, b: ModelOutput) -> None:
    for left, right in ((a.logits, b.logits), (a.tumor, b.tumor), (a.tme, b.tme)):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


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


def row(data: Batch, i: int) -> Batch:
    at = slice(i, i + 1)
    levels = tuple(
        MagnificationTokens(
            x.mpp,
            x.tokens[at],
            x.mask[at],
            x.coords_um[at],
            x.has_coords[at],
            None if x.parent is None else x.parent[at],
        )
        for x in data.levels
    )
    genes = replace(
        data.expression,
        tumor=data.expression.tumor[at],
        tme=data.expression.tme[at],
        present=data.expression.present[at],
    )
    target = type(data.target)(**{name: getattr(data.target, name)[at] for name in data.target.__slots__})
    return Batch(data.patient_ids[at], levels, genes, data.covariates[at], target)


@pytest.mark.parametrize("sizes", [[(1, 1)], [(1, 0)], [(0, 1)], [(300, 75), (1, 1)]])
def test_any_number_of_tokens_gives_a_finite_answer(model: nn.Module, sizes: list[tuple[int, int]]) -> None:
    said = model(batch(sizes))
    assert torch.isfinite(said.logits).all()
    for s in SUBSPACES:
        for level, attention in zip(batch(sizes).levels, said.attention[s], strict=True):
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


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_receives_gradient(name: str) -> None:
    model = MODELS[name]().train()
    data = batch([(30, 9), (25, 7), (28, 8), (20, 6)])
    hidden = replace(data.expression, present=torch.tensor([True, True, True, False]))
    said = model(replace(data, expression=hidden))
    told = [genes.square().sum() for levels in said.expressed.values() for genes in levels]
    torch.stack([said.logits.square().sum(), *told]).sum().backward()
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


def test_where_the_teacher_looks_depends_on_genes_and_tissue() -> None:
    model, data = teacher(), batch([(20, 5)])
    looked = model(data).attention["tumor"][0]
    genes = model(replace(data, expression=replace(data.expression, tumor=data.expression.tumor + 3)))
    assert not torch.allclose(looked, genes.attention["tumor"][0], atol=1e-6)
    # The reference points of the first tokens move when the tissue elsewhere changes.
    level = data.levels[0]
    tokens = level.tokens.clone()
    tokens[:, 10:] += 5
    tissue = model(replace(data, levels=(replace(level, tokens=tokens), data.levels[1])))
    ratio = tissue.attention["tumor"][0][:, :10] / looked[:, :10]
    assert ratio.std() > 1e-4  # not merely rescaled by the softmax


def test_the_student_does_not_look_at_genes() -> None:
    model, data = student(), batch([(8, 3)])
    other = replace(data.expression, tumor=data.expression.tumor + 9, present=~data.expression.present)
    assert torch.equal(model(data).logits, model(replace(data, expression=other)).logits)


def test_absent_genes_are_not_looked_at() -> None:
    model, data = teacher(), batch([(8, 3)])
    absent = replace(data.expression, present=torch.tensor([False]))
    other = replace(absent, tumor=absent.tumor + 9)
    assert torch.equal(model(replace(data, expression=absent)).logits, model(replace(data, expression=other)).logits)


def test_subspaces_keep_their_own_genes() -> None:
    """With a transcriptome change in one subspace, that subspace's token moves more than the other's."""
    model, data = teacher(), batch([(8, 3)])
    before = model(data)
    after = model(replace(data, expression=replace(data.expression, tumor=data.expression.tumor + 1)))
    moved = {s: (after.of(s) - before.of(s)).norm() for s in SUBSPACES}
    assert moved["tumor"] > 2 * moved["tme"]
