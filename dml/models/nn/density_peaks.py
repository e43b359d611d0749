"""Density-peak clustering of tokens (Rodriguez and Laio, Science 2014; k-nearest-neighbour density: Du et al. 2016).

    rho_i   = exp(-mean of the squared distances to the k nearest tokens)
    delta_i = distance to the nearest token of higher density (the largest distance of all for the densest)
    centres = the tokens of largest rho * delta; every other token belongs to the nearest centre

Deterministic, and blind to the order of tokens: ties of density are resolved by the tokens themselves. Time is
quadratic in the tokens, memory linear, because distances are computed a block of rows at a time. Differs from the
authors' code, in which ties are broken at random and several n x n matrices are stored.

Shape legend: n tokens, d width, r clusters.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

NEIGHBOURS = 5
BLOCK = 512
"""Rows of the distance matrix that are computed at a time."""


def density_peaks(tokens: Float[Tensor, "n d"], clusters: int) -> Int[Tensor, "n"]:
    """Assign each token to one of at most `clusters` clusters, numbered by falling rho * delta.

    With no more tokens than clusters, each token is a cluster.
    """
    n = len(tokens)
    if n <= clusters:
        return torch.argsort(_order(tokens.sum(1), tokens.square().sum(1)))
    density = _densities(tokens)
    separation = _separations(tokens, _order(density, tokens.sum(1)))
    centres = _order(density * separation, tokens.sum(1))[:clusters]
    nearest = torch.cat([torch.cdist(block, tokens[centres]).argmin(1) for block in torch.split(tokens, BLOCK)])
    return nearest.scatter(0, centres, torch.arange(clusters, device=tokens.device))


def _order(first: Tensor, second: Tensor) -> Tensor:
    """Return the tokens by falling `first`, then falling `second`."""
    by_second = torch.argsort(second, descending=True, stable=True)
    return by_second[torch.argsort(first[by_second], descending=True, stable=True)]


def _densities(tokens: Tensor) -> Tensor:
    nearest = min(NEIGHBOURS, len(tokens) - 1) + 1  # the nearest is the token itself
    distances = [
        torch.cdist(block, tokens).topk(nearest, largest=False).values[:, 1:] for block in torch.split(tokens, BLOCK)
    ]
    return torch.exp(-torch.cat(distances).square().mean(1))


def _separations(tokens: Tensor, order: Tensor) -> Tensor:
    rank = torch.argsort(order)
    separations = []
    for rows, ranks in zip(torch.split(tokens, BLOCK), torch.split(rank, BLOCK), strict=True):
        distance = torch.cdist(rows, tokens)
        farthest = distance.max(1).values
        denser = distance.masked_fill(rank[None, :] >= ranks[:, None], torch.inf).min(1).values
        separations.append(torch.where(torch.isfinite(denser), denser, farthest))
    return torch.cat(separations)
