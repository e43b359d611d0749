"""After MurreNet (arXiv 2507.04891, MICCAI 2025): slide and genes split into shared and specific parts, joined.

    s_m, u_m = Split(h_m),  m in {slide, genes}                  see dml.models.nn.shared_specific
    v_m = u_m - (u_m.s / |s|^2) s,  s = mean of s_m              what of the specific part is orthogonal to the shared
    f   = MLP([s; v_slide; v_genes])
    L   = L_task + similarity + difference + reconstruction

Differs from the paper: its abstract names the three aims and the orthogonal fusion, its equations were not to be had;
these are the standard forms, weighted as in MISA (arXiv 2005.03545), on at least 64 patients instead of on a batch.
Without transcriptome the shared part is that of the slide, and there is no part specific to genes.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import Batch, Expression
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.model_terms import TermModel, Terms
from dml.models.multi_scale import LevelEncoding
from dml.models.nn.attention import GatedAttention
from dml.models.nn.gene_encoder import GeneNetwork
from dml.models.nn.shared_specific import (
    EmbeddingMemory,
    Parts,
    SharedSpecific,
    central_moment_discrepancy,
    difference,
    orthogonal_part,
)
from dml.training.model_objective import ModelTermsObjective

WEIGHTS = {"similarity": 1.0, "difference": 0.3, "reconstruction": 1.0}
"""Weights of the terms."""
MEMORY = 64
"""Patients on which similarity and difference are computed, from when so many have been seen."""
MIN_PATIENTS = 4
"""Patients with both modalities below which there are no terms."""


class MurreNet(TermModel):
    """Predicts from slide and transcriptome; `decomposes` off is the plain backbone: both embeddings, joined."""

    branches = ("fused",)
    decomposes: ClassVar[bool] = True

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        width = config.width
        self.pool = GatedAttention(width, width)
        self.genes = GeneNetwork(dims.tumor_genes + dims.tme_genes, config.gene_width, width, config.dropout)
        if self.decomposes:
            self.split = SharedSpecific(("slide", "genes"), width)
            self.memories = nn.ModuleList(EmbeddingMemory(MEMORY) for _ in range(dims.levels))
        inputs = 3 if self.decomposes else 2
        self.fuse = nn.Sequential(nn.Linear(inputs * width, width), nn.GELU(), nn.Dropout(config.dropout))
        self.head = self.make_head(dims, config)

    def embed_genes(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed all genes together; zero without transcriptome."""
        embedded = self.genes(torch.cat([expression.tumor, expression.tme], dim=1))
        return {"genes": embedded * expression.present[:, None]}

    def encode_with_terms(
        self, tokens: Tensor, index: int, genes: Mapping[str, Tensor], batch: Batch
    ) -> tuple[LevelEncoding, Terms]:
        """Pool the tokens, split both modalities, and join their parts."""
        mask = batch.levels[index].mask
        pooled, attention = self.pool(tokens, mask)
        embeddings, terms = {"slide": pooled, "genes": genes["genes"]}, {}
        joined = [pooled, genes["genes"]]
        if self.decomposes:
            parts, present = self.split(embeddings), batch.expression.present
            joined = _join(parts, present)
            if self.training and int(present.sum()) >= MIN_PATIENTS:
                terms = self._terms(parts.select(present), {m: h[present] for m, h in embeddings.items()}, index)
        return LevelEncoding({"fused": self.fuse(torch.cat(joined, dim=-1))}, {"slide": attention}), terms

    def _terms(self, parts: Parts, embeddings: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
        """Return the terms over patients with both modalities."""
        flat = {f"shared {m}": x for m, x in parts.shared.items()} | {
            f"specific {m}": x for m, x in parts.specific.items()
        }
        remembered = self.memories[index](flat)
        every = Parts(*({m: remembered[f"{kind} {m}"] for m in embeddings} for kind in ("shared", "specific")))
        values = {
            "similarity": central_moment_discrepancy(every.shared["slide"], every.shared["genes"]),
            "difference": difference(every),
            "reconstruction": self.split.reconstruction(parts, embeddings),
        }
        return {name: WEIGHTS[name] * value for name, value in values.items()}


class PlainMurreNet(MurreNet):
    """The backbone: pooled slide and gene embedding, joined."""

    decomposes = False


def _join(parts: Parts, present: Tensor) -> list[Tensor]:
    """Return the shared part, and what of the specific ones is orthogonal to it."""
    measured = present[:, None].to(parts.shared["slide"].dtype)
    shared = (parts.shared["slide"] + measured * parts.shared["genes"]) / (1 + measured)
    slide, genes = (orthogonal_part(parts.specific[m], shared) for m in ("slide", "genes"))
    return [shared, slide, measured * genes]


MODELS = ModelEntry(
    "murrenet",
    label="MurreNet-style",
    description="Slide and transcriptome: shared and specific parts, orthogonal fusion (after MurreNet, Liu 2025)",
    family="deep",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="arXiv:2507.04891",
    build=MurreNet.build,
    objective=ModelTermsObjective,
).with_plain(PlainMurreNet.build, "decomposition")
