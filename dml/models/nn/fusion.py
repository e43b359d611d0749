"""Subspace fusion: attended tissue and genes of each subspace become one embedding (arXiv 2508.16479).

    F   = W_f [H_T; H_M]                      memory shared by both subspaces
    f_s = tanh(LN(o_s + mean(H_s) + Attention(o_s + mean(H_s), F, F)))

The memory has all 2 r tokens as keys. Differs from the authors' code, in which it has a single key, so that attention
is constantly 1 and its query and key weights never learn.

Shape legend: b patients, r queries, d width.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dml.core.types import SUBSPACES
from dml.models.nn.attention import attention_weights, merge_heads, split_heads


class SubspaceFusion(nn.Module):
    """Fuse the two subspaces into one embedding of each."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.memory = nn.ModuleDict({s: nn.Linear(width, width) for s in SUBSPACES})
        self.query = nn.ModuleDict({s: nn.Linear(width, width) for s in SUBSPACES})
        self.keys, self.values = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.norm = nn.ModuleDict({s: nn.LayerNorm(width) for s in SUBSPACES})
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, attended: Mapping[str, Float[Tensor, "b r d"]], genes: Mapping[str, Float[Tensor, "b d"]]
    ) -> dict[str, Float[Tensor, "b d"]]:
        """Return f_s for each subspace, each component in (-1, 1)."""
        memory = torch.cat([self.memory[s](attended[s]) for s in SUBSPACES], dim=1)  # b 2r d
        keys, values = split_heads(self.keys(memory), self.heads), split_heads(self.values(memory), self.heads)
        real = torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device)
        fused: dict[str, Tensor] = {}
        for s in SUBSPACES:
            summary = genes[s] + attended[s].mean(1)  # b d
            query = split_heads(self.query[s](summary)[:, None], self.heads)  # b h 1 e
            context = merge_heads(attention_weights(query, keys, real) @ values)[:, 0]  # b d
            fused[s] = torch.tanh(self.norm[s](summary + self.dropout(context)))
        return fused


class PooledFusion(nn.Module):
    """The ablation of disentangled fusion: mean-pooled tissue joined to each gene embedding, without attention."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.join = nn.ModuleDict({s: nn.Linear(2 * width, width) for s in SUBSPACES})
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, pooled: Float[Tensor, "b d"], genes: Mapping[str, Float[Tensor, "b d"]]
    ) -> dict[str, Float[Tensor, "b d"]]:
        """Return f_s for each subspace."""
        return {s: torch.tanh(self.join[s](self.dropout(torch.cat([pooled, genes[s]], -1)))) for s in SUBSPACES}
