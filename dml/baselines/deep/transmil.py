"""A compact TransMIL (Shao et al. 2021, arXiv 2106.00908): tokens look at each other, then a class token at them.

    X   = P + e(x)                              e: a small network of the tile's place, nothing where it is unknown
    X'  = X + LinearAttention(LN(X))
    f   = LN(c + Attention(c, LN(X')))          c: the class token

Differs from the original, so that order and padding cannot matter: linear attention stands for the Nystrom one, whose
landmarks are means of neighbours in the list, and real tile coordinates for convolutions on tokens laid in a square in
list order. One space: the head's tumor and tme halves read the same token.
"""

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, MagnificationTokens, ModelOutput
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.nn.attention import attention_weights, heads_of, merged
from dml.models.nn.blocks import TokenProjection
from dml.models.nn.deformable import standardised
from dml.models.nn.head import SubspaceHead, SubspaceModel, combined
from dml.models.nn.linear_attention import LinearAttention


class ClassToken(nn.Module):
    """A learned token that looks at a bag once."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.token = nn.Parameter(torch.randn(width) * 0.1)
        self.query, self.keys = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what it became (b d) and where it looked (b n)."""
        normed = self.before(tokens)
        keys, values = heads_of(self.keys(normed), self.heads), heads_of(self.values(normed), self.heads)
        query = heads_of(self.query(self.token).expand(len(tokens), 1, -1), self.heads)
        weights = attention_weights(query, keys, mask)  # b h 1 n
        seen = self.dropout(self.out(merged(weights @ values)[:, 0]))
        return self.after(self.token + seen), weights.mean((1, 2))


class TransMil(SubspaceModel):
    """Predicts from the class token of each magnification; memory is linear in the tokens."""

    def __init__(self, shape: ModelDims, model: config.Model) -> None:
        super().__init__()
        self.kind, width = shape.kind, model.width
        self.project = TokenProjection(shape.token_width, width, shape.levels, model.dropout)
        self.place = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width))
        self.norm, self.mix = nn.LayerNorm(width), LinearAttention(width, model.heads)
        self.dropout = nn.Dropout(model.dropout)
        self.read = ClassToken(width, model.heads, model.dropout)
        self.head = SubspaceHead(width, shape.outputs, shape.covariates, model.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; `attention` is where the class token looked."""
        read = [self._level(self.project(level.tokens, i), level) for i, level in enumerate(batch.levels)]
        tokens, attention = [token for token, _ in read], [weights for _, weights in read]
        return combined(
            self.head, self.kind, batch, dict.fromkeys(SUBSPACES, tokens), dict.fromkeys(SUBSPACES, attention)
        )

    def _level(self, tokens: Tensor, level: MagnificationTokens) -> tuple[Tensor, Tensor]:
        place = self.place(standardised(level.coords_um, level.mask))
        placed = tokens + place * level.has_coords[:, None, None].to(place.dtype)
        mixed = placed + self.dropout(self.mix(self.norm(placed), level.mask))
        token, looked = self.read(mixed, level.mask)
        return token, looked


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
