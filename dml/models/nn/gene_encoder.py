"""Encoders of transcriptomes: a self-normalising network, and a learned token where the transcriptome is absent.

Shape legend: b patients, g genes, d width.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.core.types import SUBSPACES, Expression, Subspace


class GeneNetwork(nn.Module):
    """Self-normalising network: genes -> ELU, AlphaDropout -> width (Klambauer et al. 2017).

    Weights start from N(0, 1 / fan_in), which the self-normalising property assumes.
    """

    def __init__(self, genes: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(genes, hidden), nn.Linear(hidden, width)
        self.dropout = nn.AlphaDropout(dropout)
        for layer in (self.inner, self.outer):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(max(layer.in_features, 1)))
            nn.init.zeros_(layer.bias)

    def forward(self, genes: Float[Tensor, "b g"]) -> Float[Tensor, "b d"]:
        """Encode one group of genes."""
        hidden = self.dropout(nn.functional.elu(self.inner(genes)))
        embedded: Tensor = nn.functional.elu(self.outer(hidden))
        return embedded


class GeneEncoder(nn.Module):
    """A gene network with a learned token for patients without transcriptome."""

    def __init__(self, genes: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.measured = GeneNetwork(genes, hidden, width, dropout)
        self.absent = nn.Parameter(torch.zeros(width))

    def forward(self, genes: Float[Tensor, "b g"], present: Bool[Tensor, "b"]) -> Float[Tensor, "b d"]:
        """Encode; the values of absent rows are ignored."""
        return torch.where(present[:, None], self.measured(genes), self.absent)


class SubspaceGeneEncoder(nn.Module):
    """A gene network and a token for absent transcriptomes for each subspace."""

    def __init__(self, genes: Mapping[Subspace, int], hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.measured = nn.ModuleDict({s: GeneNetwork(genes[s], hidden, width, dropout) for s in SUBSPACES})
        self.absent = nn.ParameterDict({s: nn.Parameter(torch.zeros(width)) for s in SUBSPACES})

    def forward(self, expression: Expression) -> dict[str, Float[Tensor, "b d"]]:
        """Encode both subspaces."""
        present = expression.present[:, None]
        return {s: torch.where(present, self.measured[s](expression[s]), self.absent[s]) for s in SUBSPACES}
