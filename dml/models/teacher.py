"""The teacher: slide and transcriptome, split into tumor and microenvironment, fused per subspace (arXiv 2508.16479).

    o_s       = SNN_s(g_s), or a learned token where the transcriptome is absent
    H_s^m     = DeformableCrossAttention_s(o_s + e_s, P^m)     queries e_s are shared by the magnifications
    f_s^m     = SubspaceFusion(H^m, o)
    logits    = BranchHead(f_T, f_M, z),  f_s = certainty-weighted mean over magnifications

With consistency of expression, the tissue that each subspace attends to must predict its genes:
    g_s^m     = W_s sum_n attention_n P_n^m
With self-distillation (``teacher.loss_weights``) it sees a damaged view of each patient in training, too.

Shape legend: b patients, n tokens, r queries, d width, k classes or time bins.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, Expression, MagnificationTokens, ModelOutput, Subspace
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry, ModelSections
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.blocks import masked_mean, uniform_attention
from dml.models.nn.deformable_attention import SubspaceDeformableAttention
from dml.models.nn.degraded_view import degrade
from dml.models.nn.fusion import PooledFusion, SubspaceFusion
from dml.models.nn.gene_encoder import SubspaceGeneEncoder


class Teacher(MultiScaleModel):
    """Predicts from slide and transcriptome; magnifications, tokens and the transcriptome may be absent."""

    branches = SUBSPACES
    has_auxiliary = True

    def __init__(self, dims: ModelDims, config: config.Model, teacher: config.Teacher) -> None:
        super().__init__(dims, config)
        width = config.width
        genes: dict[Subspace, int] = {"tumor": dims.tumor_genes, "tme": dims.tme_genes}
        self.genes = SubspaceGeneEncoder(genes, config.gene_width, width, config.dropout)
        self.queries = nn.ParameterDict()
        if teacher.use_fusion:
            self.queries.update({s: nn.Parameter(torch.randn(config.n_queries, width) * 0.1) for s in SUBSPACES})
            self.attend = SubspaceDeformableAttention(SUBSPACES, width, config.heads, config.dropout)
            self.fuse: nn.Module = SubspaceFusion(width, config.heads, config.dropout)
        else:
            self.fuse = PooledFusion(width, config.dropout)
        predicts = teacher.use_fusion and teacher.consistency_weight > 0 and teacher.consistency_target == "expression"
        self.predict_genes = nn.ModuleDict({s: nn.Linear(width, genes[s]) for s in SUBSPACES} if predicts else {})
        self.head = self.make_head(dims, config)
        self.sees_degraded = teacher.loss_weights.get("self_distillation", 0.0) > 0

    @classmethod
    def build(cls, dims: ModelDims, sections: ModelSections) -> "Teacher":
        """Build an untrained teacher."""
        return cls(dims, sections.model, sections.teacher)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; in training with self-distillation its damaged view, too."""
        output = super().forward(batch)
        if not (self.training and self.sees_degraded):
            return output
        return replace(output, degraded=super().forward(degrade(batch)))

    def embed_genes(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed the genes of each subspace."""
        embedded: dict[str, Tensor] = self.genes(expression)
        return embedded

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Attend from each subspace's genes to the tokens, and fuse."""
        if not self.queries:
            uniform = uniform_attention(level.mask)
            return LevelEncoding(self.fuse(masked_mean(tokens, level.mask), genes), dict.fromkeys(SUBSPACES, uniform))
        queries = {s: genes[s][:, None] + self.queries[s] for s in SUBSPACES}  # b r d
        attended, attention = self.attend(queries, tokens, level)
        fused = self.fuse(attended, genes)
        predicted = {s: layer((attention[s][:, None] @ tokens)[:, 0]) for s, layer in self.predict_genes.items()}
        return LevelEncoding(fused, attention, predicted)


MODEL = ModelEntry(
    "teacher",
    label="teacher",
    description="Sees slide and transcriptome",
    family="ours",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="arXiv:2508.16479",
    build=Teacher.build,
    wants_gradient_coordination=True,
)
