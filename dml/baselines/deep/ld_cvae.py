"""After LD-CVAE (arXiv 2503.09496, CVPR 2025): missing genes are completed from the slide by a product of experts.

    q(z | slide) = N(m_p, v_p),  q(z | genes) = N(m_g, v_g)
    q(z | both)  = product of N(0, 1) and the experts there are
    o_s' = D_s(z),  s in {tumor, tme}                         decoded gene embeddings; they stand for missing ones
    L    = L_task + w_r |o' - o|^2 + w_k (KL(q(z | both) || N(0, 1)) + KL(q(z | both) || q(z | slide)))

where o' is decoded once from q(z | both) and once from q(z | slide). Differs from the paper: two gene groups instead of
six, gated attention instead of its transformer, and the latent code is used only to complete. The plain backbone has a
learned token for a missing transcriptome.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, Expression
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.model_terms import TermModel, Terms
from dml.models.multi_scale import LevelEncoding
from dml.models.nn.attention import GatedAttention
from dml.models.nn.gaussian_experts import Gaussian, product_of_experts
from dml.models.nn.gene_encoder import GeneEncoder, GeneNetwork
from dml.training.model_objective import ModelTermsObjective

RECONSTRUCTION, DIVERGENCE = 1.0, 0.01
"""Weights of the terms."""


class LdCvae(TermModel):
    """Predicts from slide and transcriptome; `completes` off is the plain backbone: a token for missing genes."""

    branches = ("slide", *SUBSPACES)
    completes: ClassVar[bool] = True

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        width = config.width
        counts = {"tumor": dims.tumor_genes, "tme": dims.tme_genes}
        self.pool = GatedAttention(width, width)
        make = GeneNetwork if self.completes else GeneEncoder
        self.genes = nn.ModuleDict({s: make(counts[s], config.gene_width, width, config.dropout) for s in SUBSPACES})
        if self.completes:
            self.slide_expert = nn.Linear(width, 2 * width)
            self.gene_expert = nn.Linear(2 * width, 2 * width)
            self.decode = nn.ModuleDict(
                {s: nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for s in SUBSPACES}
            )
        self.head = self.make_head(dims, config)

    def embed_genes(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed the genes of each subspace."""
        if self.completes:
            return {s: self.genes[s](expression[s]) for s in SUBSPACES}
        return {s: self.genes[s](expression[s], expression.present) for s in SUBSPACES}

    def encode_with_terms(
        self, tokens: Tensor, index: int, genes: Mapping[str, Tensor], batch: Batch
    ) -> tuple[LevelEncoding, Terms]:
        """Pool the slide, and complete missing gene embeddings from it."""
        mask = batch.levels[index].mask
        pooled, attention = self.pool(tokens, mask)
        present = batch.expression.present
        terms: dict[str, Tensor] = {}
        if self.completes:
            slide = Gaussian.of(self.slide_expert(pooled))
            alone = product_of_experts([slide])
            code = alone.sample() if self.training else alone.mean
            completed: dict[str, Tensor] = {s: self.decode[s](code) for s in SUBSPACES}
            if self.training and bool(present.any()):
                rows: dict[str, Tensor] = {s: genes[s][present] for s in SUBSPACES}
                terms = self._terms(slide.select(present), rows, {str(s): completed[s][present] for s in SUBSPACES})
            genes = {str(s): torch.where(present[:, None], genes[s], completed[s]) for s in SUBSPACES}
        embeddings: dict[str, Tensor] = {s: genes[s] for s in SUBSPACES}
        return LevelEncoding({"slide": pooled, **embeddings}, {"slide": attention}), terms

    def _terms(
        self, slide: Gaussian, genes: Mapping[str, Tensor], completed: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the terms over patients with a transcriptome."""
        targets = {s: genes[s].detach() for s in SUBSPACES}
        experts = [slide, Gaussian.of(self.gene_expert(torch.cat(list(targets.values()), dim=1)))]
        both, alone = product_of_experts(experts), product_of_experts([slide])
        code = both.sample()
        errors = [(self.decode[s](code) - targets[s]).square().mean() for s in SUBSPACES]
        errors += [(completed[s] - targets[s]).square().mean() for s in SUBSPACES]
        divergence = both.divergence(Gaussian.standard_like(both.mean)) + both.divergence(alone)
        return {"completion": RECONSTRUCTION * torch.stack(errors).mean(), "divergence": DIVERGENCE * divergence.mean()}


class PlainLdCvae(LdCvae):
    """The backbone: a learned token where the transcriptome is absent."""

    completes = False


MODELS = ModelEntry(
    "ld_cvae",
    label="LD-CVAE-style",
    description="Slide and transcriptome; missing genes completed by a product of experts (after LD-CVAE, Zhou 2025)",
    family="deep",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="arXiv:2503.09496",
    build=LdCvae.build,
    objective=ModelTermsObjective,
).with_plain(PlainLdCvae.build, "completion")
