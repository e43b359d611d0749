"""Late fusion: gated attention on the slide and a self-normalising network on the genes, whose logits are added.

A patient without transcriptome has a learned token in its place.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from dml.config import params as config
from dml.core.types import Expression, MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.attention import GatedAttention
from dml.models.nn.gene_encoder import GeneEncoder


class LateFusion(MultiScaleModel):
    """Predicts from slide and transcriptome, which meet only in the sum of their logits."""

    branches = ("slide", "genes")

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        self.pool = GatedAttention(config.width, config.width)
        genes = dims.tumor_genes + dims.tme_genes
        self.genes = GeneEncoder(genes, config.gene_width, config.width, config.dropout)
        self.head = self.make_head(dims, config)

    def shared_embeddings(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed all genes together."""
        return {"genes": self.genes(torch.cat([expression.tumor, expression.tme], dim=1), expression.present)}

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Pool the tokens by gated attention."""
        embedding, attention = self.pool(tokens, level.mask)
        return LevelEncoding({"slide": embedding}, {"slide": attention})


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
