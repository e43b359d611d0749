"""Attention of the tokens of one set on those of another, with its feed-forward layer.

Shape legend: b patients, r queries, n keys, d width.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.models.nn.attention import attention_weights, merge_heads, split_heads


class CrossAttention(nn.Module):
    """One transformer layer: y = x + W_o Attention(LN(x), LN(keys)), then y + FF(LN(y)).

    Memory is the number of queries times that of keys: at most one of the two may be the tiles of a slide.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_queries, self.norm_keys, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.keys = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.feedforward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Float[Tensor, "b r d"], keys: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b r d"], Float[Tensor, "b r n"]]:
        """Return the queries after attention to the keys that are there, and the attention, mean over heads."""
        normed = self.norm_keys(keys)
        query = split_heads(self.query(self.norm_queries(queries)), self.heads)
        weights = attention_weights(query, split_heads(self.keys(normed), self.heads), mask)
        attended = merge_heads(weights @ split_heads(self.values(normed), self.heads))
        mixed = queries + self.dropout(self.out(attended))
        return mixed + self.dropout(self.feedforward(self.norm(mixed))), weights.mean(1)
