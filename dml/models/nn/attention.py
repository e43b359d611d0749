"""Attention of a few queries on many tokens: memory is linear in the tokens, and padding takes no part.

Shape legend: b patients, r queries, n tokens, d width, h heads, e = d / h.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def heads_of(x: Float[Tensor, "b n d"], heads: int) -> Float[Tensor, "b h n e"]:
    """Split the width into heads."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def merged(x: Float[Tensor, "b h n e"]) -> Float[Tensor, "b n d"]:
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
