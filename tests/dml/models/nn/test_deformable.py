"""Deformable attention against its slow twin, in values and gradients, and what its speed must not change."""

import pytest
import torch
from torch import Tensor

from dml.models.nn.deformable import DeformableCrossAttention, look_together
from dml.models.nn.deformable_ops import runs
from tests import oracles

WIDTH, HEADS, SEEDS = 12, 3, 4
Inputs = tuple[list[Tensor], Tensor, Tensor, Tensor, Tensor]


def attentions(count: int = 2) -> list[DeformableCrossAttention]:
    looks = [DeformableCrossAttention(WIDTH, HEADS, 0.0) for _ in range(count)]
    for look in looks:
        for norm in (look.norm_seeds, look.norm_tokens):
            torch.nn.init.normal_(norm.weight, 1.0, 0.3)
            torch.nn.init.normal_(norm.bias, 0.0, 0.3)
    return looks


def inputs(sizes: list[int], count: int = 2) -> Inputs:
    """Bags of the sizes, some tiles hidden in the middle, every second bag without coordinates."""
    b, n = len(sizes), max(sizes)
    mask = torch.arange(n)[None] < torch.tensor(sizes)[:, None]
    mask &= (torch.rand(b, n) < 0.8) | (torch.arange(n) == 0)[None]
    seeds = [torch.randn(b, SEEDS, WIDTH, requires_grad=True) for _ in range(count)]
    tokens = torch.randn(b, n, WIDTH, requires_grad=True)
    return seeds, tokens, mask, torch.rand(b, n, 2) * 4000, torch.arange(b) % 2 == 0


def results(looks: list[DeformableCrossAttention], outputs: list[tuple[Tensor, Tensor]], given: Inputs) -> list[Tensor]:
    """What came out and a gradient of all of it for everything that went in."""
    generator = torch.Generator().manual_seed(3)
    total = sum((x * torch.randn(x.shape, generator=generator)).sum() for pair in outputs for x in pair)
    wanted = [*(p for look in looks for p in look.parameters()), *given[0], given[1]]
    found = torch.autograd.grad(total, wanted, allow_unused=True)
    return [x for pair in outputs for x in pair] + [
        torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)
    ]


def same(ours: list[Tensor], slow: list[Tensor]) -> None:
    for a, b in zip(ours, slow, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


SIZES = [[1], [5, 3], [7, 0, 2], [3, 5, 9, 20, 33, 40, 41, 64], [64, 1, 2, 3, 60, 1, 2, 3, 4]]


@pytest.mark.parametrize("sizes", SIZES)
def test_together_is_what_the_equations_say(sizes: list[int]) -> None:
    looks, given = attentions(), inputs(sizes)
    if 0 in sizes:
        given[2][sizes.index(0)] = False
    seeds, *tissue = given
    slow = [oracles.deformable_attention(look, own, *tissue) for look, own in zip(looks, seeds, strict=True)]
    same(results(looks, look_together(looks, seeds, *tissue), given), results(looks, slow, given))


def test_one_alone_is_what_it_is_in_company() -> None:
    looks, (seeds, *tissue) = attentions(), inputs([6, 3])
    for look, own, (seen, attention) in zip(looks, seeds, look_together(looks, seeds, *tissue), strict=True):
        alone = look(own, *tissue)
        torch.testing.assert_close(alone[0], seen)
        torch.testing.assert_close(alone[1], attention)


def test_seeds_shared_by_all_patients_change_nothing() -> None:
    looks, (_, *tissue) = attentions(), inputs([6, 3, 9])
    seeds = [torch.randn(SEEDS, WIDTH, requires_grad=True) for _ in looks]

    def run(copied: bool) -> list[Tensor]:
        each = [own.expand(3, -1, -1) for own in seeds]
        each = [own.contiguous() for own in each] if copied else each
        return results(looks, look_together(looks, each, *tissue), (seeds, *tissue))

    same(run(copied=False), run(copied=True))


def test_weights_of_hidden_tiles_are_exactly_zero_and_the_rest_sums_to_one() -> None:
    looks, (seeds, tokens, mask, coords, has_coords) = attentions(1), inputs([40, 1, 7, 3, 39, 12, 9, 40], 1)
    attention = look_together(looks, seeds, tokens * 100, mask, coords * 1e3, has_coords)[0][1]
    assert (attention[~mask] == 0).all()
    torch.testing.assert_close(attention.sum(1), torch.ones(8))


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([9, 9, 9, 9], [(4, 9)]),  # few patients stay together
        ([33] * 8, [(8, 33)]),  # nothing to gain
        ([1, 2, 9, 9, 20, 21, 39, 40], [(2, 2), (2, 9), (2, 21), (2, 40)]),
        ([0] * 7 + [40], [(2, 1), (2, 1), (2, 1), (2, 40)]),  # an empty bag keeps one place
    ],
)
def test_runs_cut_common_padding_off(sizes: list[int], wanted: list[tuple[int, int]]) -> None:
    assert runs(torch.arange(max(sizes))[None] < torch.tensor(sizes)[:, None]) == wanted
