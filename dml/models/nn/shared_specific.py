"""Decomposition of several modalities into a shared and a specific part each, and the losses that make them so.

    s_m = E(h_m),  u_m = E_m(h_m),  h_m' = D_m(s_m + u_m)          one shared encoder E for all modalities m

Similarity: the shared parts are distributed alike (central moment discrepancy, Zellinger et al. 2017, arXiv
1702.08811). Difference: shared and specific parts do not overlap (Bousmalis et al. 2016, arXiv 1608.06019).
Representativeness: both parts together rebuild the modality, without which the shared part may become a constant.

Shape legend: b patients, d width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOMENTS = 5
"""Central moments that are compared, as in its source."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The shared and the specific part of each modality, each component in (-1, 1)."""

    shared: Mapping[str, Float[Tensor, "b d"]]
    specific: Mapping[str, Float[Tensor, "b d"]]

    def select(self, rows: Tensor) -> "Parts":
        """Return the parts of some patients."""
        shared = {name: part[rows] for name, part in self.shared.items()}
        return Parts(shared, {name: part[rows] for name, part in self.specific.items()})


class SharedSpecific(nn.Module):
    """Splits modalities of one width."""

    def __init__(self, modalities: Sequence[str], width: int) -> None:
        super().__init__()
        self.shared = nn.Linear(width, width)
        self.specific = nn.ModuleDict({name: nn.Linear(width, width) for name in modalities})
        self.decode = nn.ModuleDict({name: nn.Linear(width, width) for name in modalities})

    def forward(self, embeddings: Mapping[str, Float[Tensor, "b d"]]) -> Parts:
        """Split each modality."""
        shared = {name: torch.tanh(self.shared(h)) for name, h in embeddings.items()}
        return Parts(shared, {name: torch.tanh(self.specific[name](h)) for name, h in embeddings.items()})

    def reconstruction(self, parts: Parts, embeddings: Mapping[str, Float[Tensor, "b d"]]) -> Float[Tensor, ""]:
        """Squared error of the modalities rebuilt from their parts; they have no gradient from it."""
        errors = [
            (self.decode[name](parts.shared[name] + parts.specific[name]) - h.detach()).square().mean()
            for name, h in embeddings.items()
        ]
        return torch.stack(errors).mean()


class EmbeddingMemory(nn.Module):
    """Appends the embeddings of earlier batches, without gradient, until there are enough rows for a distribution.

    Statistics of a batch of 16 patients are noise. What is kept is no part of the weights.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self._earlier: dict[str, Tensor] = {}

    def forward(self, embeddings: Mapping[str, Float[Tensor, "b d"]]) -> dict[str, Float[Tensor, "r d"]]:
        """Return the embeddings of this batch, then those of earlier ones; all names have the same patients."""
        joined = {
            name: torch.cat([x, self._earlier[name].to(x)]) if name in self._earlier else x
            for name, x in embeddings.items()
        }
        self._earlier = {name: x.detach()[: self.rows] for name, x in joined.items()}
        return joined


def central_moment_discrepancy(
    x: Float[Tensor, "r d"], y: Float[Tensor, "r d"], moments: int = MOMENTS
) -> Float[Tensor, ""]:
    """Distance of two distributions in (-1, 1): of their means, and of their central moments up to an order.

    Examples
    --------
    >>> x = torch.tensor([[-0.5], [0.5]])
    >>> float(central_moment_discrepancy(x, x.flip(0))), round(float(central_moment_discrepancy(x, x + 0.4)), 3)
    (0.0, 0.2)
    """
    distances = [_length(x.mean(0) - y.mean(0)) / 2]
    centred = x - x.mean(0), y - y.mean(0)
    for order in range(2, moments + 1):
        one, other = ((part**order).mean(0) for part in centred)
        distances.append(_length(one - other) / 2**order)
    return torch.stack(distances).sum()


def overlap(x: Float[Tensor, "r d"], y: Float[Tensor, "r d"]) -> Float[Tensor, ""]:
    """Squared Frobenius norm of the correlation of two batches, their rows centred and of length one; in [0, 1].

    Examples
    --------
    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> float(overlap(x, x)), float(overlap(x, torch.tensor([[1.0, 0.0], [1.0, 0.0]])))
    (1.0, 0.0)
    """
    one, other = (nn.functional.normalize(part - part.mean(0), dim=1) for part in (x, y))
    return (one.T @ other / len(x)).square().sum()


def difference(parts: Parts) -> Float[Tensor, ""]:
    """Mean overlap of shared and specific part of each modality, and of the specific parts of different ones."""
    names = list(parts.specific)
    pairs = [overlap(parts.shared[name], parts.specific[name]) for name in names]
    pairs += [overlap(parts.specific[a], parts.specific[b]) for i, a in enumerate(names) for b in names[i + 1 :]]
    return torch.stack(pairs).mean()


def orthogonal_part(x: Float[Tensor, "b d"], to: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Return what of each row is orthogonal to another: x - (x.y / |y|^2) y.

    Examples
    --------
    >>> orthogonal_part(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])).tolist()
    [[0.0, 4.0]]
    """
    share = (x * to).sum(1, keepdim=True) / to.square().sum(1, keepdim=True).clamp_min(1e-6)
    return x - share * to


def _length(x: Tensor) -> Tensor:
    """Euclidean norm with a finite gradient at zero."""
    return (x.square().sum() + 1e-12).sqrt() - 1e-6
