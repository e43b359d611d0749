"""The predecessor: knowledge-driven subspace fusion (arXiv 2406.13979, MICCAI 2024), without its deformable grid.

    o_s = SNN_s(g_s)
    h_s = sum_n a_n V P_n,  a = softmax_n(W_q (o_s + p) . W_k P_n / sqrt(e)),  p = mean of the tokens
    f_s = tanh(W_s [o_s; h_s])
    logits = W_T f_T + W_M f_M + b

Genes of each subspace look once at the slide; there is no memory that both subspaces share, no second look, no student.
Its gradient coordination is a matter of training and is left to the teacher's switch. The deformable sampling of the
paper needs tiles on a grid; here every tile is looked at.
"""

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, MagnificationTokens, ModelOutput, Subspace
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.nn.attention import attention_weights, heads_of, merged
from dml.models.nn.blocks import TokenProjection, masked_mean
from dml.models.nn.head import SubspaceHead, SubspaceModel, combined
from dml.models.nn.optional_genes import OptionalGenes


class GeneGuidedLook(nn.Module):
    """One subspace: its genes, and what they see of the slide, joined."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query, self.keys = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.values, self.join = nn.Linear(width, width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, genes: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the subspace token (b d) and where it looked (b n)."""
        normed = self.norm(tokens)
        query = heads_of(self.query(genes + masked_mean(normed, mask))[:, None], self.heads)
        keys, values = heads_of(self.keys(normed), self.heads), heads_of(self.values(normed), self.heads)
        weights = attention_weights(query, keys, mask)  # b h 1 n
        seen = merged(weights @ values)[:, 0]
        return torch.tanh(self.join(self.dropout(torch.cat([genes, seen], -1)))), weights.mean((1, 2))


class SubspaceFusionNet(SubspaceModel):
    """Predicts from slide and transcriptome, split into tumor and microenvironment."""

    def __init__(self, shape: ModelDims, model: config.Model) -> None:
        super().__init__()
        self.kind, width = shape.kind, model.width
        counts = {"tumor": shape.tumor_genes, "tme": shape.tme_genes}
        self.project = TokenProjection(shape.token_width, width, shape.levels, model.dropout)
        self.genes = nn.ModuleDict(
            {s: OptionalGenes(counts[s], model.gene_width, width, model.dropout) for s in SUBSPACES}
        )
        self.look = nn.ModuleDict({s: GeneGuidedLook(width, model.heads, model.dropout) for s in SUBSPACES})
        self.head = SubspaceHead(width, shape.outputs, shape.covariates, model.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; `attention` is per subspace."""
        expression = batch.expression
        genes = {s: self.genes[s](expression[s], expression.present) for s in SUBSPACES}
        tokens: dict[Subspace, list[Tensor]] = {s: [] for s in SUBSPACES}
        attention: dict[Subspace, list[Tensor]] = {s: [] for s in SUBSPACES}
        for index, level in enumerate(batch.levels):
            self._level(self.project(level.tokens, index), level, genes, tokens, attention)
        return combined(self.head, self.kind, batch, tokens, attention)

    def _level(
        self,
        projected: Tensor,
        level: MagnificationTokens,
        genes: dict[Subspace, Tensor],
        tokens: dict[Subspace, list[Tensor]],
        attention: dict[Subspace, list[Tensor]],
    ) -> None:
        for s in SUBSPACES:
            token, looked = self.look[s](genes[s], projected, level.mask)
            tokens[s].append(token)
            attention[s].append(looked)


MODEL = ModelEntry(
    "subspace_fusion",
    label="subspace fusion",
    description="Slide and transcriptome: the predecessor's subspace fusion (after Zhang 2024)",
    family="deep",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="arXiv:2406.13979",
    build=SubspaceFusionNet.build,
)
