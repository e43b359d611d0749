"""The teacher: slide and transcriptome, split into tumor and microenvironment, fused per subspace (arXiv 2508.16479).

    o_s       = SNN_s(g_s), or a learned token where the transcriptome is absent
    H_s^m     = DeformableCrossAttention_s(o_s + e_s, P^m)     seeds e_s are shared by the magnifications
    f_s^m     = SubspaceFusion(H^m, o)
    logits    = SubspaceHead(f_T, f_M, z),  f_s = certainty-weighted mean over magnifications

With the second reading of consistency, the tissue that each subspace looked at must tell its genes:
    g_s^m     = W_s sum_n relevance_n P_n^m

Shape legend: b patients, n tokens, r reference points, d width, k classes or time bins.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, Expression, MagnificationTokens, ModelOutput, Subspace
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry, ModelSections
from dml.models.nn.blocks import GeneNetwork, TokenProjection, masked_mean
from dml.models.nn.deformable import DeformableCrossAttention, look_together
from dml.models.nn.fusion import PooledFusion, SubspaceFusion
from dml.models.nn.head import SubspaceHead, combined

PerSubspace = dict[Subspace, Tensor]


class Teacher(nn.Module):
    """Learns from slide and transcriptome; copes with either magnification set and with absent transcriptomes."""

    def __init__(self, shape: ModelDims, model: config.Model, teacher: config.Teacher) -> None:
        super().__init__()
        self.kind, width = shape.kind, model.width
        genes = {"tumor": shape.tumor_genes, "tme": shape.tme_genes}
        self.project = TokenProjection(shape.token_width, width, shape.levels, model.dropout)
        self.genes = nn.ModuleDict(
            {s: GeneNetwork(genes[s], model.gene_width, width, model.dropout) for s in SUBSPACES}
        )
        self.absent = nn.ParameterDict({s: nn.Parameter(torch.zeros(width)) for s in SUBSPACES})
        if teacher.use_fusion:
            self.seeds = nn.ParameterDict(
                {s: nn.Parameter(torch.randn(model.n_queries, width) * 0.1) for s in SUBSPACES}
            )
            self.look = nn.ModuleDict(
                {s: DeformableCrossAttention(width, model.heads, model.dropout) for s in SUBSPACES}
            )
            self.fuse: nn.Module = SubspaceFusion(width, model.heads, model.dropout)
        else:
            self.seeds = nn.ParameterDict()
            self.fuse = PooledFusion(width, model.dropout)
        reads = teacher.use_fusion and teacher.consistency_weight > 0 and teacher.consistency_target == "expression"
        self.express = nn.ModuleDict({s: nn.Linear(width, genes[s]) for s in SUBSPACES} if reads else {})
        self.head = SubspaceHead(width, shape.outputs, shape.covariates, model.dropout, shape.auxiliary)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; `attention` says where each subspace looked, per level."""
        return self.read(batch, {s: self._embedded(batch.expression, s) for s in SUBSPACES})

    def read(self, batch: Batch, genes: PerSubspace) -> ModelOutput:
        """Predict a batch whose gene embeddings o_s (each b d) are given."""
        tokens: dict[Subspace, list[Tensor]] = {s: [] for s in SUBSPACES}
        attention: dict[Subspace, list[Tensor]] = {s: [] for s in SUBSPACES}
        expressed: dict[Subspace, list[Tensor]] = {s: [] for s in SUBSPACES}
        for index, level in enumerate(batch.levels):
            projected = self.project(level.tokens, index)
            fused, looked = self._level(projected, level, genes)
            for s in SUBSPACES:
                tokens[s].append(fused[s])
                attention[s].append(looked[s])
                if s in self.express:
                    expressed[s].append(self.express[s]((looked[s][:, None] @ projected)[:, 0]))
        branches = combined(self.head, self.kind, batch, tokens, attention)
        return replace(branches, predicted_genes={s: tuple(said) for s, said in expressed.items() if said})

    def _embedded(self, expression: Expression, s: Subspace) -> Tensor:
        measured: Tensor = self.genes[s](expression[s])
        return torch.where(expression.present[:, None], measured, self.absent[s])

    def _level(self, tokens: Tensor, level: MagnificationTokens, genes: PerSubspace) -> tuple[PerSubspace, PerSubspace]:
        if not self.seeds:
            uniform = level.mask / level.mask.sum(1, keepdim=True).clamp_min(1)
            return self.fuse(masked_mean(tokens, level.mask), genes), dict.fromkeys(SUBSPACES, uniform)
        looks, seeds = (
            [self.look[s] for s in SUBSPACES],
            [genes[s][:, None] + self.seeds[s] for s in SUBSPACES],
        )  # b r d
        looked = look_together(looks, seeds, tokens, level.mask, level.coords_um, level.has_coords)
        seen: PerSubspace = {s: token for s, (token, _) in zip(SUBSPACES, looked, strict=True)}
        attention: PerSubspace = {s: where for s, (_, where) in zip(SUBSPACES, looked, strict=True)}
        return self.fuse(seen, genes), attention


def build(dims: ModelDims, sections: ModelSections) -> Teacher:
    """Build an untrained teacher."""
    return Teacher(dims, sections.model, sections.teacher)


MODEL = ModelEntry(
    "teacher",
    label="teacher",
    description="Sees slide and transcriptome",
    family="ours",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="arXiv:2508.16479",
    build=build,
    wants_gradient_coordination=True,
)
