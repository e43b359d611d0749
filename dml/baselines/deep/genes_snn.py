"""Genes only: a self-normalising network on both gene groups together (Klambauer et al. 2017, arXiv 1706.02515).

Patients without transcriptome are neither trained on nor predicted; those without slide are.
"""

import torch

from dml.config import params as config
from dml.core.types import Batch, ModelOutput
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import BranchModel
from dml.models.nn.gene_encoder import GeneNetwork


class GenesSnn(BranchModel):
    """Predicts from the transcriptome; slides in the batch are ignored."""

    branches = ("genes",)

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__()
        genes = dims.tumor_genes + dims.tme_genes
        self.genes = GeneNetwork(genes, config.gene_width, config.width, config.dropout)
        self.head = self.make_head(dims, config)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; there is no attention."""
        embedding = self.genes(torch.cat([batch.expression.tumor, batch.expression.tme], dim=1))
        logits = self.head([embedding] * len(self.head.inputs), batch.covariates)
        return ModelOutput({"genes": embedding}, logits)


MODEL = ModelEntry(
    "genes_snn",
    label="genes SNN",
    description="Transcriptome only: self-normalising network",
    family="deep",
    inputs=("genes",),
    requires=("genes",),
    paper="arXiv:1706.02515",
    build=GenesSnn.build,
)
