"""Density peaks: the slow obvious twin, well separated groups, and nothing that depends on order or block size."""

import pytest
import torch

from dml.models.nn import density_peaks as module
from dml.models.nn.density_peaks import density_peaks


def slow(tokens: torch.Tensor, clusters: int, neighbours: int) -> list[int]:
    """Compute the definition, token by token, with all distances at once."""
    n = len(tokens)
    distance = (tokens[:, None] - tokens[None]).square().sum(-1).sqrt()
    rho = [float(torch.exp(-distance[i].sort().values[1 : neighbours + 1].square().mean())) for i in range(n)]
    delta = [
        min((float(distance[i, j]) for j in range(n) if rho[j] > rho[i]), default=float(distance[i].max()))
        for i in range(n)
    ]
    centres = sorted(range(n), key=lambda i: -rho[i] * delta[i])[:clusters]
    nearest = [min(range(clusters), key=lambda k: float(distance[i, centres[k]])) for i in range(n)]
    return [centres.index(i) if i in centres else nearest[i] for i in range(n)]


@pytest.mark.parametrize(("n", "clusters"), [(9, 3), (40, 6), (120, 16)])
def test_it_is_the_definition(n: int, clusters: int) -> None:
    tokens = torch.randn(n, 4, generator=torch.Generator().manual_seed(n)).double()
    assert density_peaks(tokens, clusters).tolist() == slow(tokens, clusters, module.NEIGHBOURS)


def test_separate_groups_are_found() -> None:
    g = torch.Generator().manual_seed(0)
    group = torch.randint(0, 4, (200,), generator=g)
    tokens = torch.eye(4)[group] * 20 + torch.randn(200, 4, generator=g) * 0.5
    found = density_peaks(tokens, 4)
    assert len({(int(a), int(b)) for a, b in zip(found, group, strict=True)}) == 4


def test_neither_order_nor_block_size_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.randn(90, 5, generator=torch.Generator().manual_seed(1)).double()
    before = density_peaks(tokens, 7)
    order = torch.randperm(90)
    assert torch.equal(density_peaks(tokens[order], 7), before[order])
    monkeypatch.setattr(module, "BLOCK", 13)
    assert torch.equal(density_peaks(tokens, 7), before)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_tokens_are_clusters_of_their_own(n: int) -> None:
    tokens = torch.randn(n, 3)
    assert sorted(density_peaks(tokens, 5).tolist()) == list(range(n))


def test_equal_tokens_do_not_disturb() -> None:
    assert set(density_peaks(torch.ones(20, 3), 4).tolist()) <= {0, 1, 2, 3}
