"""Token aggregation of the student: thousands of patch tokens become one embedding per subspace (arXiv 2508.16479).

    H_s          = DeformableCrossAttention(e_s, P)           r informative tokens, queries e_s learned per subspace
    embedding_s  = tanh(LN(sum_r w_r H_s,r)),  w = softmax(u_s . LN H_s)

Memory is linear in the number of tokens and nothing is random. Differs from the authors' code, in which density-peak
clusters come in arbitrary order with random tie-breaks while the distillation target is ordered [tumor, TME].

Shape legend: b patients, r informative tokens per subspace, n tokens, d width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dml.core.types import SUBSPACES, MagnificationTokens
from dml.models.nn.attention import attention_weights, merge_heads, split_heads
from dml.models.nn.blocks import masked_mean, uniform_attention
from dml.models.nn.deformable_attention import SubspaceDeformableAttention
from dml.models.nn.density_peaks import density_peaks

Aggregated = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Subspace to its embedding (b d), and to its attention over the tokens (b n)."""


class SubspaceQueries(nn.Module):
    """Learned queries of each subspace attend to the tokens; a gate pools them."""

    def __init__(self, width: int, heads: int, n_queries: int, dropout: float) -> None:
        super().__init__()
        self.queries = nn.ParameterDict({s: nn.Parameter(torch.randn(n_queries, width) * 0.1) for s in SUBSPACES})
        self.attend = SubspaceDeformableAttention(SUBSPACES, width, heads, dropout)
        self.norm = nn.ModuleDict({s: nn.LayerNorm(width) for s in SUBSPACES})
        self.gate = nn.ModuleDict({s: nn.Linear(width, 1, bias=False) for s in SUBSPACES})

    def forward(self, tokens: Float[Tensor, "b n d"], level: MagnificationTokens) -> Aggregated:
        """Return one embedding (b d) and the attention (b n) per subspace."""
        attended, attention = self.attend(dict(self.queries.items()), tokens, level)
        return {s: self._pool(s, attended[s]) for s in SUBSPACES}, attention

    def _pool(self, s: str, attended: Float[Tensor, "b r d"]) -> Float[Tensor, "b d"]:
        gate = torch.softmax(self.gate[s](self.norm[s](attended)), dim=1)  # b r 1
        return torch.tanh(self.norm[s]((gate * attended).sum(1)))


class DensityPeaks(nn.Module):
    """Tokens are clustered by density peaks and merged; a query of each subspace attends to the merged tokens.

    Source: arXiv 2508.16479, which clusters into as many tokens as there are subspaces; here any number of clusters is
    read by a query of each subspace, so that an embedding belongs to a named subspace.
    """

    def __init__(self, width: int, heads: int, clusters: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.clusters = heads, clusters
        self.norm_tokens, self.weigh = nn.LayerNorm(width, bias=False), nn.Linear(width, 1, bias=False)
        self.query = nn.ParameterDict({s: nn.Parameter(torch.randn(1, width) * 0.1) for s in SUBSPACES})
        self.keys, self.values = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.norm = nn.ModuleDict({s: nn.LayerNorm(width) for s in SUBSPACES})
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "b n d"], level: MagnificationTokens) -> Aggregated:
        """Return one embedding (b d) and the attention (b n) per subspace."""
        weights = torch.exp(self.weigh(self.norm_tokens(tokens))[..., 0].clamp(-10, 10)) * level.mask  # b n
        members = self._assign(tokens.detach(), level.mask) * level.mask[..., None]  # b n r, one-hot
        mass = torch.einsum("bnr,bn->br", members, weights)
        share = members * weights[..., None] / mass.clamp_min(1e-12)[:, None]  # b n r: columns sum to one
        merged = share.transpose(1, 2) @ tokens  # b r d
        keys, values = (split_heads(layer(merged), self.heads) for layer in (self.keys, self.values))
        embeddings: dict[str, Tensor] = {}
        attention: dict[str, Tensor] = {}
        for s in SUBSPACES:
            query = split_heads(self.query[s].expand(len(tokens), -1, -1), self.heads)
            of_clusters = attention_weights(query, keys, mass > 0)  # b h 1 r
            attended = self.dropout(merge_heads(of_clusters @ values)[:, 0])
            embeddings[s] = torch.tanh(self.norm[s](self.query[s] + attended))
            attention[s] = (share @ of_clusters.mean((1, 2))[..., None])[..., 0]
        return embeddings, attention

    def _assign(self, tokens: Tensor, mask: Tensor) -> Tensor:
        one_hot = tokens.new_zeros(*mask.shape, self.clusters)
        for bag, real, row in zip(tokens, mask, one_hot, strict=True):
            if real.any():
                row[real] = functional.one_hot(density_peaks(bag[real], self.clusters), self.clusters).to(row.dtype)
        return one_hot


class NoAggregation(nn.Module):
    """The ablation: the embedding of each subspace is a linear map of the mean of all tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.ModuleDict({s: nn.Linear(width, width) for s in SUBSPACES})

    def forward(self, tokens: Float[Tensor, "b n d"], level: MagnificationTokens) -> Aggregated:
        """Return one embedding (b d) and the (uniform) attention (b n) per subspace."""
        pooled = masked_mean(tokens, level.mask)
        embeddings: dict[str, Tensor] = {s: torch.tanh(self.map[s](pooled)) for s in SUBSPACES}
        return embeddings, dict.fromkeys(SUBSPACES, uniform_attention(level.mask))
