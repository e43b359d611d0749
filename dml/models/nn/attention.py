"""Attention: of a few queries on many tokens, gated pooling, and linear self-attention. Memory is linear in the tokens.

Shape legend: b patients, r queries, n tokens, d width, h heads, e = d / h.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def split_heads(x: Float[Tensor, "b n d"], heads: int) -> Float[Tensor, "b h n e"]:
    """Split the width into heads."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def merge_heads(x: Float[Tensor, "b h n e"]) -> Float[Tensor, "b n d"]:
    """Join the heads again."""
    return x.transpose(1, 2).flatten(-2)


def attention_weights(
    queries: Float[Tensor, "b h r e"],
    keys: Float[Tensor, "b h n e"],
    mask: Bool[Tensor, "b n"],
    bias: Float[Tensor, "b h r n"] | None = None,
) -> Float[Tensor, "b h r n"]:
    """Softmax of q.k / sqrt(e) + bias over real tokens; all zero for a bag that has none."""
    scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    hidden = ~mask[:, None, None, :]
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1).masked_fill(hidden, 0.0)


class GatedAttention(nn.Module):
    """Gated attention pooling (Ilse et al. 2018, arXiv 1802.04712).

        token = sum_n a_n x_n,   a = softmax_n(u . (tanh(V x_n) * sigmoid(U x_n)))

    The score has no bias, to which a softmax is blind.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(
        self, tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n"]]:
        """Return the pooled token and the weights of the bag's tokens; both zero for a bag that has none."""
        scores = self.score(torch.tanh(self.content(tokens)) * torch.sigmoid(self.gate(tokens)))[..., 0]
        hidden = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = torch.softmax(hidden, dim=-1).masked_fill(~mask, 0.0)
        return (weights[:, None, :] @ tokens)[:, 0], weights


class LinearAttention(nn.Module):
    """Self-attention whose memory is linear in the tokens (Katharopoulos et al. 2020, arXiv 2006.16236).

        y_n = phi(q_n) (sum_m phi(k_m) v_m^T) / phi(q_n) . sum_m phi(k_m),   phi(x) = elu(x) + 1

    Sums over tokens do not depend on their order, and a masked token adds nothing to them.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries, self.keys = nn.Linear(width, width), nn.Linear(width, width)
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Attend; the output at masked positions has no meaning."""
        queries = nn.functional.elu(split_heads(self.queries(tokens), self.heads)) + 1
        keys = nn.functional.elu(split_heads(self.keys(tokens), self.heads)) + 1
        keys = keys.masked_fill(~mask[:, None, :, None], 0.0)
        state = keys.transpose(-1, -2) @ split_heads(self.values(tokens), self.heads)  # b h e e
        total = queries @ keys.sum(2)[..., None]  # b h n 1
        attended: Tensor = self.out(merge_heads(queries @ state / total.clamp_min(torch.finfo(total.dtype).tiny)))
        return attended
