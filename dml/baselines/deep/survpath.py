"""After SurvPath (Jaume et al. 2024, CVPR): co-attention of pathway tokens and tiles, without tile-to-tile attention.

    G' = Attention(G, [G; P])       pathways attend to pathways and tiles
    P' = Attention(P, G)            tiles attend to pathways
    f  = [mean of G'; mean of P']

Differs from the paper: two layers with residuals and heads instead of one masked matrix, and pathways are the
sets that the user names instead of Hallmark and Reactome. Without transcriptome nothing attends to pathways, and the
mean of G' is left out. The plain backbone has the means of P and G as they are.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from dml.config import params as config
from dml.core.types import Expression, MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.blocks import masked_mean, uniform_attention
from dml.models.nn.cross_attention import CrossAttention
from dml.models.nn.pathways import PathwayEncoder


class SurvPath(MultiScaleModel):
    """Predicts from slide and transcriptome; `attends` off is the plain backbone: means of both."""

    branches = ("slide", "genes")
    attends: ClassVar[bool] = True

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        self.pathways = PathwayEncoder(dims, config.gene_width, config.width, config.dropout)
        if self.attends:
            self.pathways_attend = CrossAttention(config.width, config.heads, config.dropout)
            self.tiles_attend = CrossAttention(config.width, config.heads, config.dropout)
        self.head = self.make_head(dims, config)

    def embed_genes(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed the pathways."""
        tokens = self.pathways(expression)
        return {"tokens": tokens, "present": expression.present[:, None].expand(-1, tokens.shape[1])}

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Attend from pathways to all tokens, and from tiles to pathways."""
        pathways, present = genes["tokens"], genes["present"]
        attention = uniform_attention(level.mask)
        if self.attends:
            every, there = torch.cat([pathways, tokens], dim=1), torch.cat([present, level.mask], dim=1)
            attended, weights = self.pathways_attend(pathways, every, there)
            tokens, _ = self.tiles_attend(tokens, pathways, present)
            on_tiles = weights[:, :, pathways.shape[1] :].mean(1)
            total = on_tiles.sum(1, keepdim=True)
            attention = torch.where(total > 0, on_tiles / total.clamp_min(1e-12), attention)
            pathways = attended
        embeddings = {"slide": masked_mean(tokens, level.mask), "genes": masked_mean(pathways, present)}
        return LevelEncoding(embeddings, {"slide": attention})


class PlainSurvPath(SurvPath):
    """The backbone: means of tiles and of pathway tokens."""

    attends = False


MODELS = ModelEntry(
    "survpath",
    label="SurvPath-style",
    description="Tiles and pathways attend to each other (after SurvPath, Jaume 2024)",
    family="deep",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="SurvPath, CVPR 2024",
    build=SurvPath.build,
).with_plain(PlainSurvPath.build, "co-attention")
