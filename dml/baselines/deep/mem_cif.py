"""After MEM and CIF (arXiv 2512.09801): channels of each modality enhanced, complementary information exchanged.

    x_m <- x_m * sigmoid(W2_m relu(W1_m mean(x_m)))              channel attention, m in {slide, genes}
    x_p <- x_p + g * V x_g,  g = sigmoid(W [x_p; x_g; x_p - x_g])  and likewise from slide to genes

Differs from the paper, which segments scans and of which only the abstract was to be had: the exchange is between the
pooled slide and the gene embedding, and its consistency on unlabelled patients is left out, because baselines learn
from labelled ones. Without transcriptome nothing is exchanged, and the gene branch is zero. The plain backbone has the
two embeddings as they are.
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
from dml.models.nn.attention import GatedAttention
from dml.models.nn.blocks import masked_mean
from dml.models.nn.gene_encoder import GeneNetwork

REDUCTION = 4
"""Hidden width of the channel attention: the width divided by this, as in squeeze-and-excitation."""


class ChannelAttention(nn.Module):
    """A weight in (0, 1) for each channel, from the mean over the tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(width // REDUCTION, 1)
        self.weigh = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.Sigmoid())

    def forward(self, mean: Tensor) -> Tensor:
        """Return the weights (b d)."""
        weights: Tensor = self.weigh(mean)
        return weights


class Exchange(nn.Module):
    """Gated addition of what one modality has and another lacks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(3 * width, width), nn.Linear(width, width)

    def forward(self, to: Tensor, source: Tensor) -> Tensor:
        """Return what is added to `to` (b d)."""
        gate = torch.sigmoid(self.gate(torch.cat([to, source, to - source], dim=-1)))
        added: Tensor = gate * self.value(source)
        return added


class MemCif(MultiScaleModel):
    """Predicts from slide and transcriptome; `exchanges` off is the plain backbone: two embeddings, logits added."""

    branches = ("slide", "genes")
    exchanges: ClassVar[bool] = True

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        width = config.width
        self.pool = GatedAttention(width, width)
        self.genes = GeneNetwork(dims.tumor_genes + dims.tme_genes, config.gene_width, width, config.dropout)
        if self.exchanges:
            self.enhance = nn.ModuleDict({m: ChannelAttention(width) for m in self.branches})
            self.receive = nn.ModuleDict({m: Exchange(width) for m in self.branches})
        self.head = self.make_head(dims, config)

    def embed_genes(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed all genes together."""
        embedded = self.genes(torch.cat([expression.tumor, expression.tme], dim=1))
        return {"genes": embedded, "present": expression.present[:, None]}

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Enhance channels, pool, and exchange."""
        embedded, present = genes["genes"], genes["present"]
        if self.exchanges:
            tokens = tokens * self.enhance["slide"](masked_mean(tokens, level.mask))[:, None]
            embedded = embedded * self.enhance["genes"](embedded)
        pooled, attention = self.pool(tokens, level.mask)
        if self.exchanges:
            to_slide, to_genes = self.receive["slide"](pooled, embedded), self.receive["genes"](embedded, pooled)
            pooled, embedded = pooled + present * to_slide, embedded + to_genes
        return LevelEncoding({"slide": pooled, "genes": embedded * present}, {"slide": attention})


class PlainMemCif(MemCif):
    """The backbone: pooled slide and gene embedding."""

    exchanges = False


MODELS = ModelEntry(
    "mem_cif",
    label="MEM + CIF-style",
    description="Slide and transcriptome: channel attention and gated exchange (after MEM and CIF)",
    family="deep",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="arXiv:2512.09801",
    build=MemCif.build,
).with_plain(PlainMemCif.build, "channel attention and exchange")
