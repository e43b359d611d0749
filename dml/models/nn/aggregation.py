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
from torch.nn import functional

from dml.core.types import SUBSPACES, MagnificationTokens, Subspace
from dml.models.nn.attention import attention_weights, heads_of, merged
from dml.models.nn.blocks import masked_mean
from dml.models.nn.deformable import DeformableCrossAttention, look_together
from dml.models.nn.density_peaks import density_peaks

Aggregated = tuple[dict[Subspace, Tensor], dict[Subspace, Tensor]]


class SubspaceQueries(nn.Module):
    """Learned queries of each subspace gather its informative tokens; a gate merges them."""

    def __init__(self, width: int, heads: int, references: int, dropout: float) -> None:
        super().__init__()
        self.seeds = nn.ParameterDict({s: nn.Parameter(torch.randn(references, width) * 0.1) for s in SUBSPACES})
        self.look = nn.ModuleDict({s: DeformableCrossAttention(width, heads, dropout) for s in SUBSPACES})
        self.norm = nn.ModuleDict({s: nn.LayerNorm(width) for s in SUBSPACES})
        self.gate = nn.ModuleDict({s: nn.Linear(width, 1, bias=False) for s in SUBSPACES})

    def forward(self, tokens: Float[Tensor, "b n d"], level: MagnificationTokens) -> Aggregated:
        """Return one token (b d) and the attention (b n) per subspace."""
        merged: dict[Subspace, Tensor] = {}
        attention: dict[Subspace, Tensor] = {}
        looks, seeds = zip(*((self.look[s], self.seeds[s].expand(len(tokens), -1, -1)) for s in SUBSPACES), strict=True)
        looked = look_together(looks, seeds, tokens, level.mask, level.coords_um, level.has_coords)
        for s, (seen, where) in zip(SUBSPACES, looked, strict=True):
            attention[s] = where
            gate = torch.softmax(self.gate[s](self.norm[s](seen)), dim=1)  # b r 1
            merged[s] = torch.tanh(self.norm[s]((gate * seen).sum(1)))
        return merged, attention


class DensityPeaks(nn.Module):
    """Tokens are clustered by density peaks and merged; each subspace gathers from the merged tokens what it wants.

    Source: arXiv 2508.16479, which clusters into as many tokens as there are subspaces; here any number of clusters is
    read by a query of each subspace, so that a token belongs to a named subspace.
    """

    def __init__(self, width: int, heads: int, references: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.clusters = heads, references
        self.norm_tokens, self.weigh = nn.LayerNorm(width, bias=False), nn.Linear(width, 1, bias=False)
        self.query = nn.ParameterDict({s: nn.Parameter(torch.randn(1, width) * 0.1) for s in SUBSPACES})
        self.keys, self.values = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.norm = nn.ModuleDict({s: nn.LayerNorm(width) for s in SUBSPACES})
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "b n d"], level: MagnificationTokens) -> Aggregated:
        """Return one token (b d) and the attention (b n) per subspace."""
        weights = torch.exp(self.weigh(self.norm_tokens(tokens))[..., 0].clamp(-10, 10)) * level.mask  # b n
        members = self._assigned(tokens.detach(), level.mask) * level.mask[..., None]  # b n r, one-hot
        mass = torch.einsum("bnr,bn->br", members, weights)
        share = members * weights[..., None] / mass.clamp_min(1e-12)[:, None]  # b n r: columns sum to one
        merged_tokens = share.transpose(1, 2) @ tokens  # b r d
        keys, values = (heads_of(map_(merged_tokens), self.heads) for map_ in (self.keys, self.values))
        gathered: dict[Subspace, Tensor] = {}
        attention: dict[Subspace, Tensor] = {}
        for s in SUBSPACES:
            query = heads_of(self.query[s].expand(len(tokens), -1, -1), self.heads)
            looked = attention_weights(query, keys, mass > 0)  # b h 1 r
            gathered[s] = torch.tanh(self.norm[s](self.query[s] + self.dropout(merged(looked @ values)[:, 0])))
            attention[s] = (share @ looked.mean((1, 2))[..., None])[..., 0]
        return gathered, attention

    def _assigned(self, tokens: Tensor, mask: Tensor) -> Tensor:
        one_hot = tokens.new_zeros(*mask.shape, self.clusters)
        for bag, real, row in zip(tokens, mask, one_hot, strict=True):
            if real.any():
                row[real] = functional.one_hot(density_peaks(bag[real], self.clusters), self.clusters).to(row.dtype)
        return one_hot


class NoAggregation(nn.Module):
    """The ablation: each subspace token is a linear map of the mean of all tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.ModuleDict({s: nn.Linear(width, width) for s in SUBSPACES})

    def forward(self, tokens: Float[Tensor, "b n d"], level: MagnificationTokens) -> Aggregated:
        """Return one token (b d) and the (uniform) attention (b n) per subspace."""
        pooled = masked_mean(tokens, level.mask)
        uniform = level.mask / level.mask.sum(1, keepdim=True).clamp_min(1)
        return {s: torch.tanh(self.map[s](pooled)) for s in SUBSPACES}, dict.fromkeys(SUBSPACES, uniform)
