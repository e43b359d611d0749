"""The predecessor: knowledge-driven subspace fusion (arXiv 2406.13979, MICCAI 2024), without its deformable grid.

    o_s = SNN_s(g_s)
    h_s = sum_n a_n V P_n,  a = softmax_n(W_q (o_s + p) . W_k P_n / sqrt(e)),  p = mean of the tokens
    f_s = tanh(W_s [o_s; h_s])
    logits = W_T f_T + W_M f_M + b

Genes of each subspace attend once to the slide; there is no shared memory, no second attention, no student. Its
gradient coordination is a variant of its own (`subspace_fusion_coordinated`). The deformable sampling of the paper
needs tiles on a grid; here every tile is attended to.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Expression, MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.attention import attention_weights, merge_heads, split_heads
from dml.models.nn.blocks import masked_mean
from dml.models.nn.gene_encoder import GeneEncoder


class GeneGuidedAttention(nn.Module):
    """One subspace: its genes, and the tokens they attend to, joined."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query, self.keys = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.values, self.join = nn.Linear(width, width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, genes: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the subspace embedding (b d) and the attention (b n)."""
        normed = self.norm(tokens)
        query = split_heads(self.query(genes + masked_mean(normed, mask))[:, None], self.heads)
        keys, values = split_heads(self.keys(normed), self.heads), split_heads(self.values(normed), self.heads)
        weights = attention_weights(query, keys, mask)  # b h 1 n
        attended = merge_heads(weights @ values)[:, 0]
        return torch.tanh(self.join(self.dropout(torch.cat([genes, attended], -1)))), weights.mean((1, 2))


class SubspaceFusionNet(MultiScaleModel):
    """Predicts from slide and transcriptome, split into tumor and microenvironment."""

    branches = SUBSPACES

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        width, counts = config.width, {"tumor": dims.tumor_genes, "tme": dims.tme_genes}
        self.genes = nn.ModuleDict(
            {s: GeneEncoder(counts[s], config.gene_width, width, config.dropout) for s in SUBSPACES}
        )
        self.attend = nn.ModuleDict({s: GeneGuidedAttention(width, config.heads, config.dropout) for s in SUBSPACES})
        self.head = self.make_head(dims, config)

    def embed_genes(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed the genes of each subspace."""
        return {s: self.genes[s](expression[s], expression.present) for s in SUBSPACES}

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Attend from each subspace's genes to the tokens."""
        encoded = {s: self.attend[s](genes[s], tokens, level.mask) for s in SUBSPACES}
        return LevelEncoding({s: f for s, (f, _) in encoded.items()}, {s: a for s, (_, a) in encoded.items()})


_PLAIN = ModelEntry(
    "subspace_fusion",
    label="subspace fusion",
    description="Slide and transcriptome: the predecessor's subspace fusion (after Zhang 2024)",
    family="deep",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="arXiv:2406.13979",
    build=SubspaceFusionNet.build,
)
MODELS = (
    _PLAIN,
    replace(
        _PLAIN,
        name="subspace_fusion_coordinated",
        label="subspace fusion, coordinated",
        description=f"{_PLAIN.description}; gradients of the subspaces coordinated",
        wants_gradient_coordination=True,
        backbone=_PLAIN.name,
        is_variant=True,
    ),
)
