"""Informative token aggregation: thousands of tokens become a few that belong to named subspaces (arXiv 2508.16479).

    H_s     = DeformableCrossAttention(e_s, P)           r informative tokens, seeds e_s learned per subspace
    token_s = tanh(LN(sum_r w_r H_s,r)),  w = softmax(u_s . LN H_s)

Memory is linear in the number of tokens and nothing is random. Differs from the authors' code, in which density-peak
clusters come in arbitrary order with random tie-breaks while the distillation target is ordered [tumor, TME].

Shape legend: b patients, r informative tokens per subspace, n tokens, d width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dml.models.nn.blocks import masked_mean
from dml.models.nn.deformable import DeformableCrossAttention
from dml.types import SUBSPACES, Level, Subspace

Aggregated = tuple[dict[Subspace, Tensor], dict[Subspace, Tensor]]


class SubspaceQueries(nn.Module):
    """Learned queries of each subspace gather its informative tokens; a gate merges them."""

    def __init__(self, width: int, heads: int, references: int, dropout: float) -> None:
        super().__init__()
        self.seeds = nn.ParameterDict({s: nn.Parameter(torch.randn(references, width) * 0.1) for s in SUBSPACES})
        self.look = nn.ModuleDict({s: DeformableCrossAttention(width, heads, dropout) for s in SUBSPACES})
        self.norm = nn.ModuleDict({s: nn.LayerNorm(width) for s in SUBSPACES})
        self.gate = nn.ModuleDict({s: nn.Linear(width, 1, bias=False) for s in SUBSPACES})

    def forward(self, tokens: Float[Tensor, "b n d"], level: Level) -> Aggregated:
        """Return one token (b d) and the relevance (b n) per subspace."""
        merged: dict[Subspace, Tensor] = {}
        relevance: dict[Subspace, Tensor] = {}
        for s in SUBSPACES:
            seeds = self.seeds[s].expand(len(tokens), -1, -1)
            seen, relevance[s] = self.look[s](seeds, tokens, level.mask, level.coords_um, level.located)
            gate = torch.softmax(self.gate[s](self.norm[s](seen)), dim=1)  # b r 1
            merged[s] = torch.tanh(self.norm[s]((gate * seen).sum(1)))
        return merged, relevance


class NoAggregation(nn.Module):
    """The ablation: each subspace token is a linear map of the mean of all tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.ModuleDict({s: nn.Linear(width, width) for s in SUBSPACES})

    def forward(self, tokens: Float[Tensor, "b n d"], level: Level) -> Aggregated:
        """Return one token (b d) and the (uniform) relevance (b n) per subspace."""
        pooled = masked_mean(tokens, level.mask)
        uniform = level.mask / level.mask.sum(1, keepdim=True).clamp_min(1)
        return {s: torch.tanh(self.map[s](pooled)) for s in SUBSPACES}, dict.fromkeys(SUBSPACES, uniform)
