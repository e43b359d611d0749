"""Genes only: a self-normalising network on both gene groups together (Klambauer et al. 2017, arXiv 1706.02515).

Patients without transcriptome are neither learnt from nor predicted; those without slide are. One space: the head's
tumor and tme halves read the same token.
"""

import torch

from dml.config import params as config
from dml.core.types import Batch, ModelOutput
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.nn.blocks import GeneNetwork
from dml.models.nn.head import SubspaceHead, SubspaceModel


class GenesSnn(SubspaceModel):
    """Predicts from the transcriptome; slides in the batch are not looked at."""

    def __init__(self, shape: ModelDims, model: config.Model) -> None:
        super().__init__()
        genes = shape.tumor_genes + shape.tme_genes
        self.genes = GeneNetwork(genes, model.gene_width, model.width, model.dropout)
        self.head = SubspaceHead(model.width, shape.outputs, shape.covariates, model.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; there is no `attention`."""
        token = self.genes(torch.cat([batch.expression.tumor, batch.expression.tme], dim=1))
        return ModelOutput({"tumor": token, "tme": token}, logits=self.head(token, token, batch.covariates))


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
