"""After MMP (Song et al. 2024, ICML): slide prototypes and pathway tokens meet in one attention layer.

    T = Attention([H; G], [H; G])      H: prototypes of tissue, G: pathway tokens
    f = [mean of T over H; mean of T over G]

Differs from the paper: prototypes are learned with the task instead of by a Gaussian mixture before it, and the loss is
the one of all models here instead of Cox's. Pathways of a patient without transcriptome are neither attended to nor
averaged. The plain backbone has one token of each modality: the mean tile, and all genes together.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import Expression, MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.blocks import masked_mean, uniform_attention
from dml.models.nn.cross_attention import CrossAttention
from dml.models.nn.gene_encoder import GeneNetwork
from dml.models.nn.pathways import PathwayEncoder
from dml.models.nn.prototypes import Prototypes

PROTOTYPES = 16


class Mmp(MultiScaleModel):
    """Predicts from slide and transcriptome; `summarises` off is the plain backbone: one token a modality."""

    branches = ("slide", "genes")
    summarises: ClassVar[bool] = True

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        width = config.width
        self.genes: nn.Module
        if self.summarises:
            self.prototypes = Prototypes(width, PROTOTYPES)
            self.genes = PathwayEncoder(dims, config.gene_width, width, config.dropout)
        else:
            self.genes = GeneNetwork(dims.tumor_genes + dims.tme_genes, config.gene_width, width, config.dropout)
        self.modality = nn.Parameter(torch.randn(2, width) * 0.1)
        self.attend = CrossAttention(width, config.heads, config.dropout)
        self.head = self.make_head(dims, config)

    def embed_genes(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed the pathways, or all genes together as one."""
        if self.summarises:
            tokens = self.genes(expression)
        else:
            tokens = self.genes(torch.cat([expression.tumor, expression.tme], dim=1))[:, None]
        return {"tokens": tokens, "present": expression.present[:, None].expand(-1, tokens.shape[1])}

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Summarise the slide, and attend among the tokens of both modalities."""
        if self.summarises:
            slide, attention = self.prototypes(tokens, level.mask)
        else:
            slide, attention = masked_mean(tokens, level.mask)[:, None], uniform_attention(level.mask)
        has_slide = level.mask.any(1, keepdim=True).expand(-1, slide.shape[1])
        every = torch.cat([slide + self.modality[0], genes["tokens"] + self.modality[1]], dim=1)
        mixed, _ = self.attend(every, every, torch.cat([has_slide, genes["present"]], dim=1))
        parts = mixed[:, : slide.shape[1]], mixed[:, slide.shape[1] :]
        embeddings = {"slide": parts[0].mean(1), "genes": masked_mean(parts[1], genes["present"])}
        return LevelEncoding(embeddings, {"slide": attention})


class PlainMmp(Mmp):
    """The backbone: one token a modality in the same layer."""

    summarises = False


MODELS = ModelEntry(
    "mmp",
    label="MMP-style",
    description="Slide prototypes and pathways in one attention layer (after MMP, Song 2024)",
    family="deep",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="Multimodal Prototyping for Cancer Survival Prediction, ICML 2024",
    build=Mmp.build,
).with_plain(PlainMmp.build, "prototypes and pathways")
