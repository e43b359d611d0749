"""Zoom: the most attended coarse tiles decide which fine ones are read, and nothing else of the fine level does."""

from dataclasses import replace

import pytest
import torch

from dml.config import params as config
from dml.core.types import Batch
from dml.models.nn.zoom import attended_children
from dml.models.student import Student
from tests.behaviour import row, same
from tests.synthetic import DIMS, batch

SMALL = config.Model(width=16, heads=2, n_queries=3, gene_width=8, dropout=0.0)


def student(zoom: float | None) -> Student:
    torch.manual_seed(0)
    return Student(DIMS, SMALL, "subspace_queries", zoom).eval()


def nested(sizes: list[tuple[int, int]]) -> Batch:
    """A batch in which fine tile i lies in coarse tile i modulo the number of coarse tiles."""
    data = batch(sizes)
    fine, coarse = data.levels
    parent = torch.full_like(fine.mask, -1, dtype=torch.long)
    for b, (n_fine, n_coarse) in enumerate(sizes):
        parent[b, :n_fine] = torch.arange(n_fine) % n_coarse
    linked = torch.ones(len(sizes), dtype=torch.bool)
    fine, coarse = replace(fine, parent=parent, has_coords=linked), replace(coarse, has_coords=linked)
    return replace(data, levels=(fine, coarse))


@pytest.mark.parametrize(("share", "expected"), [(0.25, [1]), (0.5, [1, 2]), (0.51, [1, 2, 3]), (1.0, [0, 1, 2, 3])])
def test_the_most_attended_coarse_tiles_are_kept(share: float, expected: list[int]) -> None:
    data = nested([(8, 4)])
    attention = torch.tensor([[0.1, 0.4, 0.3, 0.2]])
    mask = attended_children(data.levels[0], data.levels[1], attention, share)
    assert sorted(set(data.levels[0].parent[mask].tolist())) == expected
    assert int(mask.sum()) == 2 * len(expected)


def test_padding_is_never_chosen_and_neighbours_do_not_matter() -> None:
    model, data = student(0.3), nested([(12, 6), (4, 2)])
    chosen = model.select_tokens(data).levels[0].mask
    assert not bool((chosen & ~data.levels[0].mask).any())
    for i in range(2):
        alone = model.select_tokens(row(data, i)).levels[0].mask
        assert torch.equal(chosen[i, : alone.shape[1]], alone[0])
    same(model(row(data, 1)), replace(model(row(data, 1))))


def test_what_is_not_read_does_not_matter_and_what_is_does() -> None:
    model, data = student(0.5), nested([(12, 6)])
    fine = data.levels[0]
    is_read = model.select_tokens(data).levels[0].mask
    assert 0 < int(is_read.sum()) < int(fine.mask.sum())
    for part, changes in ((~is_read, False), (is_read, True)):
        tokens = torch.where(part[..., None], torch.randn_like(fine.tokens), fine.tokens)
        other = model(replace(data, levels=(replace(fine, tokens=tokens), data.levels[1])))
        assert torch.allclose(model(data).logits, other.logits, atol=1e-6) is not changes


def test_everything_is_read_at_a_share_of_one_and_without_coordinates() -> None:
    data = nested([(12, 6)])
    same(student(1.0)(data), student(None)(data))
    nowhere = tuple(replace(level, has_coords=torch.zeros(1, dtype=torch.bool)) for level in data.levels)
    same(student(0.2)(replace(data, levels=nowhere)), student(None)(replace(data, levels=nowhere)))


def test_gradients_reach_every_parameter() -> None:
    model = student(0.5).train()
    output = model(nested([(12, 6), (8, 4)]))
    (output.logits.sum() + sum(x.sum() for x in output.auxiliary.values())).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_zoom_needs_attention() -> None:
    with pytest.raises(ValueError, match="follows attention"):
        config.Distillation(zoom=0.2, aggregation="none")
