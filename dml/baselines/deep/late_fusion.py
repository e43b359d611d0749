"""Late fusion: gated attention on the slide and a self-normalising network on the genes, whose logits are added.

The head's first half (tumor) reads the slide's token, its second (tme) that of all genes: here they are the two
modalities, not subspaces. A patient without transcriptome has a learned token in its place.
"""

import torch

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, ModelOutput
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.nn.blocks import TokenProjection
from dml.models.nn.gated import GatedAttention
from dml.models.nn.head import SubspaceHead, SubspaceModel, combined
from dml.models.nn.optional_genes import OptionalGenes


class LateFusion(SubspaceModel):
    """Predicts from slide and transcriptome, which meet only in the sum of their logits."""

    def __init__(self, shape: ModelDims, model: config.Model) -> None:
        super().__init__()
        self.kind, genes = shape.kind, shape.tumor_genes + shape.tme_genes
        self.project = TokenProjection(shape.token_width, model.width, shape.levels, model.dropout)
        self.pool = GatedAttention(model.width, model.width)
        self.genes = OptionalGenes(genes, model.gene_width, model.width, model.dropout)
        self.head = SubspaceHead(model.width, shape.outputs, shape.covariates, model.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; `attention` is the slide's attention."""
        pooled = [self.pool(self.project(level.tokens, i), level.mask) for i, level in enumerate(batch.levels)]
        slide, looked = [token for token, _ in pooled], [weights for _, weights in pooled]
        expression = batch.expression
        genes = self.genes(torch.cat([expression.tumor, expression.tme], dim=1), expression.present)
        tokens = {"tumor": slide, "tme": [genes] * len(slide)}
        return combined(
            self.head, self.kind, batch, {s: tokens[s] for s in SUBSPACES}, dict.fromkeys(SUBSPACES, looked)
        )


MODEL = ModelEntry(
    "late_fusion",
    label="late fusion",
    description="Slide and transcriptome, each with its own network; logits added",
    family="deep",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="late fusion, as compared with in Chen et al. 2021 (MCAT)",
    build=LateFusion.build,
)
