"""Gated attention pooling (Ilse et al. 2018, arXiv 1802.04712).

    token = sum_n a_n x_n,   a = softmax_n(u . (tanh(V x_n) * sigmoid(U x_n)))

The score has no bias, which a softmax could not see.

Shape legend: b patients, n tokens, d width.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class GatedAttention(nn.Module):
    """Pool a bag into one token by learned weights."""

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
