"""Deformable cross-attention on tiles at real positions (arXiv 2508.16479, disentangled fusion).

    c   = softmax(Q K^T / sqrt(e)) V          first look, Q = W_q LN(s)
    p   = sum_n a_n x_n + rho tanh(W_2 GELU(W_1 [s; c]))      reference point: where it looked, moved by an offset
    A   = softmax(Q' K^T / sqrt(e) - gamma_h |x - p|^2)       second look, Q' = W_q' LN(s + c)
    H   = s + W_o A V

The seeds s carry the genes, the first look c the tissue: queries, offsets and sampling depend on both. Sampling is a
Gaussian window at p over the tiles there are, instead of bilinear interpolation on a filled grid, so that tissue of any
shape and any number of tiles will do. Differs from the authors' code, in which the query is one gene vector repeated
(offsets never see the tissue) and tiles are laid on a 50 x 50 grid in list order.

How it is computed is in `dml.models.nn.deformable_ops`: several of these attentions on the same tokens are one.

Shape legend: b patients, r reference points, n tokens, d width, h heads, s attentions that share the tokens.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from dml.models.nn.deformable_ops import Looks, Tissue, standardised
from dml.models.nn.dropout import Dropout

REACH = 1.0
"""Largest offset of a reference point (rho), in units of the bag's spatial spread."""

__all__ = ["REACH", "DeformableCrossAttention", "look_together", "standardised"]


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
        self.dropout = Dropout(dropout)

    def forward(
        self,
        seeds: Float[Tensor, "b r d"],
        tokens: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n"],
        coords_um: Float[Tensor, "b n 2"],
        has_coords: Bool[Tensor, "b"],
    ) -> tuple[Float[Tensor, "b r d"], Float[Tensor, "b n"]]:
        """Attend; bags that are not `has_coords` are treated as sets.

        Returns
        -------
        tokens : Tensor, b r d
            The seeds with what they saw.
        attention : Tensor, b n
            Mean attention over heads and reference points: a distribution over the bag's tokens.
        """
        return look_together([self], [seeds], tokens, mask, coords_um, has_coords)[0]


def look_together(
    looks: Sequence[nn.Module],
    seeds: Sequence[Float[Tensor, "b r d"]],
    tokens: Float[Tensor, "b n d"],
    mask: Bool[Tensor, "b n"],
    coords_um: Float[Tensor, "b n 2"],
    has_coords: Bool[Tensor, "b"],
) -> list[tuple[Float[Tensor, "b r d"], Float[Tensor, "b n"]]]:
    """Let several deformable attentions look at the same tokens, each with its own seeds: one pass over the tissue.

    Returns what each returns alone, up to rounding. Seeds that are expanded over the patients (stride 0) are the same
    for all of them, and make the first look's queries once.
    """
    attentions = [look for look in looks if isinstance(look, DeformableCrossAttention)]
    shared = all(own.stride(0) == 0 for own in seeds)
    seen, attention = _look(attentions, torch.stack(list(seeds)), shared, tokens, mask, coords_um, has_coords)
    return list(zip(seen, attention, strict=True))


def _look(
    looks: Sequence[DeformableCrossAttention],
    seeds: Float[Tensor, "s b r d"],
    shared: bool,
    tokens: Tensor,
    mask: Tensor,
    coords_um: Tensor,
    has_coords: Tensor,
) -> tuple[Float[Tensor, "s b r d"], Float[Tensor, "s b n"]]:
    tissue, all_ = Tissue(tokens, mask, coords_um, has_coords), Looks(looks)
    asking = seeds[:, :1] if shared else seeds
    looked, place, _ = all_.attend(all_.linear("first", all_.norm(asking)), None, tissue)
    context = all_.read(looked, tissue)
    moved = functional.gelu(all_.linear("offset.0", torch.cat([seeds, context], -1)))
    points = place + REACH * torch.tanh(all_.linear("offset.2", moved))  # s b r 2
    looked, _, weights = all_.attend(all_.linear("second", all_.norm(seeds + context)), points, tissue)
    seen = seeds + looks[0].dropout(all_.linear("out", all_.read(looked, tissue)))
    return seen, tissue.attention(weights, len(looks))
