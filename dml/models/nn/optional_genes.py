"""Genes that may be absent: embedded where measured, a learned token where not.

Shape legend: b patients, g genes, d width.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.models.nn.blocks import GeneNetwork


class OptionalGenes(nn.Module):
    """A self-normalising gene network with a token of its own for patients without transcriptome."""

    def __init__(self, genes: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.measured = GeneNetwork(genes, hidden, width, dropout)
        self.absent = nn.Parameter(torch.zeros(width))

    def forward(self, genes: Float[Tensor, "b g"], present: Bool[Tensor, "b"]) -> Float[Tensor, "b d"]:
        """Embed; the values of absent rows are not looked at."""
        return torch.where(present[:, None], self.measured(genes), self.absent)
