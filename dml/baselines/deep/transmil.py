"""A compact TransMIL (Shao et al. 2021, arXiv 2106.00908): self-attention of tiles, then a class token attends to them.

    X   = P + e(x)                              e: a small network of the tile's position, nothing where it is unknown
    X'  = X + LinearAttention(LN(X))
    f   = LN(c + Attention(c, LN(X')))          c: the class token

Differs from the original, so that order and padding cannot matter: linear attention stands for the Nystrom one, whose
landmarks are means of neighbours in the list, and real tile coordinates for convolutions on tokens put in a square in
list order.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.attention import LinearAttention, attention_weights, merge_heads, split_heads
from dml.models.nn.deformable_attention import standardise_positions


class ClassToken(nn.Module):
    """A learned token that attends to a bag once."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.token = nn.Parameter(torch.randn(width) * 0.1)
        self.query, self.keys = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm_tokens, self.norm_output = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class token after attention (b d), and the attention (b n)."""
        normed = self.norm_tokens(tokens)
        keys, values = split_heads(self.keys(normed), self.heads), split_heads(self.values(normed), self.heads)
        query = split_heads(self.query(self.token).expand(len(tokens), 1, -1), self.heads)
        weights = attention_weights(query, keys, mask)  # b h 1 n
        attended = self.dropout(self.out(merge_heads(weights @ values)[:, 0]))
        return self.norm_output(self.token + attended), weights.mean((1, 2))


class TransMil(MultiScaleModel):
    """Predicts from the class token of each magnification; memory is linear in the tokens."""

    branches = ("slide",)

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        width = config.width
        self.embed_position = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width))
        self.norm, self.mix = nn.LayerNorm(width), LinearAttention(width, config.heads)
        self.dropout = nn.Dropout(config.dropout)
        self.class_token = ClassToken(width, config.heads, config.dropout)
        self.head = self.make_head(dims, config)

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Add positions, mix the tokens, and pool them by the class token."""
        position = self.embed_position(standardise_positions(level.coords_um, level.mask))
        positioned = tokens + position * level.has_coords[:, None, None].to(position.dtype)
        mixed = positioned + self.dropout(self.mix(self.norm(positioned), level.mask))
        embedding, attention = self.class_token(mixed, level.mask)
        return LevelEncoding({"slide": embedding}, {"slide": attention})


MODEL = ModelEntry(
    "transmil",
    label="TransMIL",
    description="Slide only: attention between tiles (after TransMIL, Shao 2021)",
    family="deep",
    inputs=("slide",),
    requires=("slide",),
    paper="arXiv:2106.00908",
    build=TransMil.build,
)
