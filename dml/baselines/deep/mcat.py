"""Gene-guided co-attention (MCAT, Chen et al. 2021, ICCV), with the two gene groups tumor and tme as its genes.

    g_s = SNN_s(genes of s), or a learned token where the transcriptome is absent
    h_s = softmax(W_q g_s (W_k P)^T / sqrt(d)) W_v P          one co-attended slide token per gene group
    h   = GatedAttention(Encoder(h_T, h_M)),  g = GatedAttention(Encoder(g_T, g_M))
    f   = MLP([h; g])

One branch after the fusion; the attention is per gene group.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Expression, MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.attention import GatedAttention, attention_weights, merge_heads, split_heads
from dml.models.nn.gene_encoder import GeneEncoder


class CoAttention(nn.Module):
    """Gene groups as queries, tiles as keys and values; a single head, so that the map is one per group."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.keys = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, genes: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return slide tokens (b s d) and attention (b s n) for gene tokens (b s d)."""
        keys, values = self.keys(tokens)[:, None], self.values(tokens)[:, None]
        weights = attention_weights(self.query(genes)[:, None], keys, mask)  # b 1 s n
        return self.out((weights @ values)[:, 0]), weights[:, 0]


class Encoder(nn.Module):
    """A transformer layer over the few tokens of one modality, then gated attention to one."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.keys = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.feedforward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.pool = GatedAttention(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens (b s d) into one (b d)."""
        real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        normed = self.norm_attention(tokens)
        query, keys, values = (split_heads(f(normed), self.heads) for f in (self.query, self.keys, self.values))
        mixed = tokens + self.dropout(self.out(merge_heads(attention_weights(query, keys, real) @ values)))
        mixed = mixed + self.dropout(self.feedforward(self.norm_feedforward(mixed)))
        pooled: Tensor = self.pool(mixed, real)[0]
        return pooled


class Mcat(MultiScaleModel):
    """Predicts from slide and transcriptome; the genes guide the attention to tiles."""

    branches = ("fused",)

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        width, counts = config.width, {"tumor": dims.tumor_genes, "tme": dims.tme_genes}
        self.genes = nn.ModuleDict(
            {s: GeneEncoder(counts[s], config.gene_width, width, config.dropout) for s in SUBSPACES}
        )
        self.attend = CoAttention(width)
        self.slide_encoder = Encoder(width, config.heads, config.dropout)
        self.gene_encoder = Encoder(width, config.heads, config.dropout)
        self.fuse = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.head = self.make_head(dims, config)

    def embed_genes(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed each gene group (groups, b s d), and both together (summary, b d)."""
        groups = torch.stack([self.genes[s](expression[s], expression.present) for s in SUBSPACES], dim=1)
        return {"groups": groups, "summary": self.gene_encoder(groups)}

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Attend from the gene groups to the tiles, and fuse."""
        attended, attention = self.attend(genes["groups"], tokens, level.mask)
        fused = self.fuse(torch.cat([self.slide_encoder(attended), genes["summary"]], dim=-1))
        return LevelEncoding({"fused": fused}, {s: attention[:, i] for i, s in enumerate(SUBSPACES)})


MODEL = ModelEntry(
    "mcat",
    label="MCAT-style",
    description="Slide and transcriptome: gene-guided co-attention (after MCAT, Chen 2021)",
    family="deep",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="Multimodal Co-Attention Transformer for Survival Prediction, ICCV 2021",
    build=Mcat.build,
)
