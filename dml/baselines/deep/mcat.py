"""Gene-guided co-attention (MCAT, Chen et al. 2021, ICCV), with the two gene groups tumor and tme as its genes.

    g_s = SNN_s(genes of s), or a learned token where the transcriptome is absent
    h_s = softmax(W_q g_s (W_k P)^T / sqrt(d)) W_v P          one co-attended slide token per gene group
    h   = GatedAttention(Encoder(h_T, h_M)),  g = GatedAttention(Encoder(g_T, g_M))
    f   = MLP([h; g])

One space after the fusion: the head's tumor and tme halves read the same token f; `attention` is per gene group.
"""

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, MagnificationTokens, ModelOutput, Subspace
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.nn.attention import attention_weights, heads_of, merged
from dml.models.nn.blocks import TokenProjection
from dml.models.nn.gated import GatedAttention
from dml.models.nn.head import SubspaceHead, SubspaceModel, combined
from dml.models.nn.optional_genes import OptionalGenes


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
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.keys = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.forth = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.pool = GatedAttention(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens (b s d) into one (b d)."""
        real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        normed = self.before(tokens)
        query, keys, values = (heads_of(map_(normed), self.heads) for map_ in (self.query, self.keys, self.values))
        mixed = tokens + self.dropout(self.out(merged(attention_weights(query, keys, real) @ values)))
        mixed = mixed + self.dropout(self.forth(self.between(mixed)))
        pooled: Tensor = self.pool(mixed, real)[0]
        return pooled


class Mcat(SubspaceModel):
    """Predicts from slide and transcriptome; the genes decide where to look."""

    def __init__(self, shape: ModelDims, model: config.Model) -> None:
        super().__init__()
        self.kind, width = shape.kind, model.width
        counts = {"tumor": shape.tumor_genes, "tme": shape.tme_genes}
        self.project = TokenProjection(shape.token_width, width, shape.levels, model.dropout)
        self.genes = nn.ModuleDict(
            {s: OptionalGenes(counts[s], model.gene_width, width, model.dropout) for s in SUBSPACES}
        )
        self.look = CoAttention(width)
        self.slide_encoder = Encoder(width, model.heads, model.dropout)
        self.gene_encoder = Encoder(width, model.heads, model.dropout)
        self.fuse = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.head = SubspaceHead(width, shape.outputs, shape.covariates, model.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; `attention` is the co-attention of each gene group."""
        expression = batch.expression
        genes = torch.stack([self.genes[s](expression[s], expression.present) for s in SUBSPACES], dim=1)  # b s d
        summary = self.gene_encoder(genes)
        tokens: list[Tensor] = []
        attention: dict[Subspace, list[Tensor]] = {s: [] for s in SUBSPACES}
        for index, level in enumerate(batch.levels):
            token, looked = self._level(self.project(level.tokens, index), level, genes, summary)
            tokens.append(token)
            for i, s in enumerate(SUBSPACES):
                attention[s].append(looked[:, i])
        return combined(self.head, self.kind, batch, dict.fromkeys(SUBSPACES, tokens), attention)

    def _level(
        self, tokens: Tensor, level: MagnificationTokens, genes: Tensor, summary: Tensor
    ) -> tuple[Tensor, Tensor]:
        seen, looked = self.look(genes, tokens, level.mask)
        return self.fuse(torch.cat([self.slide_encoder(seen), summary], dim=-1)), looked


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
