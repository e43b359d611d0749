"""Deformable cross-attention on tiles at real positions (arXiv 2508.16479, disentangled fusion).

    c   = softmax(Q K^T / sqrt(e)) V          first look, Q = W_q LN(s)
    p   = sum_n a_n x_n + rho tanh(W_2 GELU(W_1 [s; c]))      reference point: where it looked, moved by an offset
    A   = softmax(Q' K^T / sqrt(e) - gamma_h |x - p|^2)       second look, Q' = W_q' LN(s + c)
    H   = s + W_o A V

The seeds s carry the genes, the first look c the tissue: queries, offsets and sampling depend on both. Sampling is a
Gaussian window at p over the tiles there are, instead of bilinear interpolation on a filled grid, so that tissue of any
shape and any number of tiles will do, and the position bias costs one matrix product. Differs from the authors' code,
in which the query is one gene vector repeated (offsets never see the tissue) and tiles are laid on a 50 x 50 grid in
list order.

Shape legend: b patients, r reference points, n tokens, d width, h heads, e = d / h.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.models.nn.attention import attention_weights, heads_of, merged

REACH = 1.0
"""Largest offset of a reference point (rho), in units of the bag's spatial spread."""


class DeformableCrossAttention(nn.Module):
    """Let seeds look at tissue twice: to see what is there, then at the places they chose."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_seeds, self.norm_tokens = nn.LayerNorm(width), nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.keys, self.values = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.offset = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 2))
        self.sharpness = nn.Parameter(torch.linspace(-3.0, 0.0, heads))
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        seeds: Float[Tensor, "b r d"],
        tokens: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n"],
        coords_um: Float[Tensor, "b n 2"],
        located: Bool[Tensor, "b"],
    ) -> tuple[Float[Tensor, "b r d"], Float[Tensor, "b n"]]:
        """Attend; bags that are not `located` are treated as sets.

        Returns
        -------
        tokens : Tensor, b r d
            The seeds with what they saw.
        relevance : Tensor, b n
            Mean attention over heads and reference points: a distribution over the bag's tokens.
        """
        normed = self.norm_tokens(tokens)
        keys, values = heads_of(self.keys(normed), self.heads), heads_of(self.values(normed), self.heads)
        looked = attention_weights(heads_of(self.first(self.norm_seeds(seeds)), self.heads), keys, mask)  # b h r n
        context = merged(looked @ values)  # b r d
        window = self._window(looked, torch.cat([seeds, context], -1), mask, coords_um, located)
        queries = heads_of(self.second(self.norm_seeds(seeds + context)), self.heads)
        weights = attention_weights(queries, keys, mask, window)  # b h r n
        seen: Tensor = seeds + self.dropout(self.out(merged(weights @ values)))
        return seen, weights.mean((1, 2))

    def _window(
        self, looked: Tensor, state: Tensor, mask: Tensor, coords_um: Tensor, located: Tensor
    ) -> Float[Tensor, "b h r n"]:
        places = standardised(coords_um, mask)  # b n 2
        points = looked.mean(1) @ places + REACH * torch.tanh(self.offset(state))  # b r 2
        distance = squared_distance(points, places)  # b r n
        sharpness = nn.functional.softplus(self.sharpness)[:, None, None]
        return -sharpness * (distance * located[:, None, None].to(distance.dtype))[:, None]


def standardised(coords_um: Float[Tensor, "b n 2"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n 2"]:
    """Centre positions on the tissue and divide by its spread, so that slides of any size and origin compare."""
    weights = mask.to(coords_um.dtype)[..., None]
    count = weights.sum(1, keepdim=True).clamp_min(1.0)
    centred = (coords_um - (coords_um * weights).sum(1, keepdim=True) / count) * weights
    spread = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
    return centred / torch.where(spread > 0, spread, torch.ones_like(spread))


def squared_distance(points: Float[Tensor, "b r 2"], places: Float[Tensor, "b n 2"]) -> Float[Tensor, "b r n"]:
    """|p - x|^2 by one matrix product, never an r x n x 2 difference."""
    cross = points @ places.transpose(-1, -2)
    return points.square().sum(-1)[..., None] - 2 * cross + places.square().sum(-1)[:, None, :]
