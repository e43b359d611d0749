"""Deformable attention against its slow twin, in values and gradients, and what its speed must not change."""

import pytest
import torch
from torch import Tensor

from dml.core.types import MagnificationTokens, Mpp
from dml.models.nn.deformable_attention import SubspaceDeformableAttention, chunk_sizes
from tests import oracles

WIDTH, HEADS, QUERIES = 12, 3, 4
Outputs = tuple[dict[str, Tensor], dict[str, Tensor]]


def make(*subspaces: str) -> SubspaceDeformableAttention:
    attention = SubspaceDeformableAttention(subspaces, WIDTH, HEADS, 0.0)
    for part in attention.subspaces.values():
        for norm in (part.norm_queries, part.norm_tokens):
            torch.nn.init.normal_(norm.weight, 1.0, 0.3)
            torch.nn.init.normal_(norm.bias, 0.0, 0.3)
    return attention


def inputs(sizes: list[int], *subspaces: str) -> tuple[dict[str, Tensor], Tensor, MagnificationTokens]:
    """Bags of the sizes, some tiles hidden in the middle, every second bag without coordinates."""
    b, n = len(sizes), max(sizes)
    mask = torch.arange(n)[None] < torch.tensor(sizes)[:, None]
    mask &= (torch.rand(b, n) < 0.8) | (torch.arange(n) == 0)[None]
    mask[[i for i, size in enumerate(sizes) if not size]] = False
    queries = {s: torch.randn(b, QUERIES, WIDTH, requires_grad=True) for s in subspaces}
    tokens = torch.randn(b, n, WIDTH, requires_grad=True)
    coords, has_coords = torch.rand(b, n, 2) * 4000, torch.arange(b) % 2 == 0
    return queries, tokens, MagnificationTokens(Mpp(0.5), tokens.detach(), mask, coords, has_coords)


def with_gradients(outputs: Outputs, wanted: list[Tensor]) -> list[Tensor]:
    """The outputs, and a gradient of all of them for some inputs."""
    flat = [x for mapping in outputs for x in mapping.values()]
    generator = torch.Generator().manual_seed(3)
    total = sum((x * torch.randn(x.shape, generator=generator)).sum() for x in flat)
    gradients = torch.autograd.grad(total, wanted, allow_unused=True)
    return flat + [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, gradients, strict=True)]


def same(ours: list[Tensor], slow: list[Tensor]) -> None:
    for a, b in zip(ours, slow, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


SIZES = [[1], [5, 3], [7, 0, 2], [3, 5, 9, 20, 33, 40, 41, 64], [64, 1, 2, 3, 60, 1, 2, 3, 4]]


@pytest.mark.parametrize("sizes", SIZES)
def test_both_subspaces_are_what_the_equations_say(sizes: list[int]) -> None:
    attention, (queries, tokens, level) = make("a", "b"), inputs(sizes, "a", "b")
    wanted = [*attention.parameters(), *queries.values(), tokens]
    slow = {
        s: oracles.deformable_attention(part, HEADS, queries[s], tokens, level)
        for s, part in attention.subspaces.items()
    }
    expected = {s: attended for s, (attended, _) in slow.items()}, {s: weights for s, (_, weights) in slow.items()}
    same(with_gradients(attention(queries, tokens, level), wanted), with_gradients(expected, wanted))


def test_a_subspace_alone_is_what_it_is_beside_another() -> None:
    both, (queries, tokens, level) = make("a", "b"), inputs([6, 3], "a", "b")
    attended, weights = both(queries, tokens, level)
    for s in ("a", "b"):
        alone = make(s)
        alone.subspaces[s].load_state_dict(both.subspaces[s].state_dict())
        single = alone({s: queries[s]}, tokens, level)
        torch.testing.assert_close(single[0][s], attended[s])
        torch.testing.assert_close(single[1][s], weights[s])


def test_queries_shared_by_all_patients_change_nothing() -> None:
    attention, (_, tokens, level) = make("a", "b"), inputs([6, 3, 9], "a", "b")
    shared = {s: torch.randn(QUERIES, WIDTH, requires_grad=True) for s in ("a", "b")}
    copied = {s: q.expand(3, -1, -1).contiguous() for s, q in shared.items()}
    wanted = [*attention.parameters(), *shared.values(), tokens]
    same(*(with_gradients(attention(queries, tokens, level), wanted) for queries in (shared, copied)))


def test_weights_of_hidden_tiles_are_exactly_zero_and_the_rest_sums_to_one() -> None:
    attention, (queries, tokens, level) = make("a"), inputs([40, 1, 7, 3, 39, 12, 9, 40], "a")
    weights = attention(queries, tokens * 100, level)[1]["a"]
    assert (weights[~level.mask] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(8))


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([9, 9, 9, 9], [(4, 9)]),  # few patients stay together
        ([33] * 8, [(8, 33)]),  # nothing to gain
        ([1, 2, 9, 9, 20, 21, 39, 40], [(2, 2), (2, 9), (2, 21), (2, 40)]),
        ([0] * 7 + [40], [(2, 1), (2, 1), (2, 1), (2, 40)]),  # an empty bag keeps one position
    ],
)
def test_chunks_cut_common_padding_off(sizes: list[int], wanted: list[tuple[int, int]]) -> None:
    assert chunk_sizes(torch.arange(max(sizes))[None] < torch.tensor(sizes)[:, None]) == wanted
