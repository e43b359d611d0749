"""Self-attention whose memory is linear in the tokens (Katharopoulos et al. 2020, arXiv 2006.16236).

    y_n = phi(q_n) (sum_m phi(k_m) v_m^T) / phi(q_n) . sum_m phi(k_m),   phi(x) = elu(x) + 1

Sums over tokens do not know their order, and a masked token adds nothing to them.

Shape legend: b patients, n tokens, d width, h heads, e = d / h.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.models.nn.attention import heads_of, merged


class LinearAttention(nn.Module):
    """Every token looks at every real token of its bag."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries, self.keys = nn.Linear(width, width), nn.Linear(width, width)
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Attend; what is returned at masked places has no meaning."""
        queries = nn.functional.elu(heads_of(self.queries(tokens), self.heads)) + 1
        keys = nn.functional.elu(heads_of(self.keys(tokens), self.heads)) + 1
        keys = keys.masked_fill(~mask[:, None, :, None], 0.0)
        state = keys.transpose(-1, -2) @ heads_of(self.values(tokens), self.heads)  # b h e e
        total = queries @ keys.sum(2)[..., None]  # b h n 1
        seen: Tensor = self.out(merged(queries @ state / total.clamp_min(torch.finfo(total.dtype).tiny)))
        return seen
