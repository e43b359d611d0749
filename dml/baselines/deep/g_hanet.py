"""After G-HANet (arXiv 2403.10040, IEEE TMI 2025): the slide must rebuild the genes, whose attention guides survival.

    q_j       = Attention(query_j, P),  j = 1..6                three queries for each gene group
    g_s'      = W_s [q_j of s],  L = L_task + w |g_s' - g_s|^2   over patients with a transcriptome
    f         = [mean of q_j; GatedAttention(P + V a P)]         a: mean attention of the queries

Slides alone are read; genes are a target in training. Differs from the paper: queries for the two gene groups instead
of six functional ones, and tiles are guided by the mean attention of all queries. The plain backbone is the same
network without the target.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.model_terms import TermModel, Terms
from dml.models.multi_scale import LevelEncoding
from dml.models.nn.attention import GatedAttention
from dml.models.nn.cross_attention import CrossAttention
from dml.training.model_objective import ModelTermsObjective

WEIGHT = 1.0
"""Weight of the reconstruction."""
QUERIES = 3
"""Queries of each gene group."""


class GHanet(TermModel):
    """Predicts from slides alone; `reconstructs` off is the plain backbone: trained for the task alone."""

    branches = ("queries", "slide")
    reconstructs: ClassVar[bool] = True

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        width = config.width
        self.queries = nn.Parameter(torch.randn(len(SUBSPACES) * QUERIES, width) * 0.1)
        self.attend = CrossAttention(width, config.heads, config.dropout)
        self.guide = nn.Linear(width, width)
        self.pool = GatedAttention(width, width)
        if self.reconstructs:
            counts = {"tumor": dims.tumor_genes, "tme": dims.tme_genes}
            self.decode = nn.ModuleDict({s: nn.Linear(QUERIES * width, counts[s]) for s in SUBSPACES})
        self.head = self.make_head(dims, config)

    def encode_with_terms(
        self, tokens: Tensor, index: int, genes: Mapping[str, Tensor], batch: Batch
    ) -> tuple[LevelEncoding, Terms]:
        """Attend from the queries to the tiles, and pool the tiles that they guide."""
        mask = batch.levels[index].mask
        attended, weights = self.attend(self.queries.expand(len(tokens), -1, -1), tokens, mask)
        guided = tokens + self.guide((weights.mean(1, keepdim=True) @ tokens)[:, 0])[:, None]
        pooled, attention = self.pool(guided, mask)
        terms: dict[str, Tensor] = {}
        present = batch.expression.present
        if self.reconstructs and self.training and bool(present.any()):
            terms = {"gene_reconstruction": WEIGHT * self._error(attended[present], batch, present)}
        return LevelEncoding({"queries": attended.mean(1), "slide": pooled}, {"slide": attention}), terms

    def _error(self, attended: Tensor, batch: Batch, present: Tensor) -> Tensor:
        """Return the squared error of both gene groups."""
        halves = dict(zip(SUBSPACES, attended.chunk(len(SUBSPACES), dim=1), strict=True))
        errors = [(self.decode[s](halves[s].flatten(1)) - batch.expression[s][present]).square() for s in SUBSPACES]
        return torch.cat(errors, dim=1).mean()


class PlainGHanet(GHanet):
    """The backbone: the same network without genes in training."""

    reconstructs = False


MODELS = ModelEntry(
    "g_hanet",
    label="G-HANet-style",
    description="Slide only; rebuilds the genes in training (after G-HANet, Wang 2024)",
    family="deep",
    inputs=("slide",),
    requires=("slide",),
    paper="arXiv:2403.10040",
    build=GHanet.build,
    objective=ModelTermsObjective,
).with_plain(PlainGHanet.build, "the genes in training")
