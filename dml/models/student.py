"""The student: slide only. Per magnification, tokens become one informative token per subspace (arXiv 2508.16479).

    token_s^m = Aggregation_s(P^m)
    logits    = SubspaceHead(token_T, token_M, z)

Its tokens carry the teacher's names, tumor and TME, so that each is distilled from its own counterpart.
"""

from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, ModelOutput, Subspace
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry, ModelSections
from dml.models.gene_imputation import GeneImputationStudent
from dml.models.nn.aggregation import DensityPeaks, NoAggregation, SubspaceQueries
from dml.models.nn.blocks import TokenProjection
from dml.models.nn.head import SubspaceHead, combined


class Student(nn.Module):
    """Predicts from slides alone; transcriptomes in the batch are not looked at."""

    def __init__(self, shape: ModelDims, model: config.Model, aggregation: str) -> None:
        super().__init__()
        self.kind = shape.kind
        self.project = TokenProjection(shape.token_width, model.width, shape.levels, model.dropout)
        gathers = {"subspace_queries": SubspaceQueries, "density_peaks": DensityPeaks}
        self.aggregate: nn.Module
        if aggregation == "none":
            self.aggregate = NoAggregation(model.width)
        else:
            self.aggregate = gathers[aggregation](model.width, model.heads, model.n_queries, model.dropout)
        self.head = SubspaceHead(model.width, shape.outputs, shape.covariates, model.dropout, shape.auxiliary)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; `attention` says where each subspace looked, per level."""
        tokens: dict[Subspace, list[Tensor]] = {s: [] for s in SUBSPACES}
        attention: dict[Subspace, list[Tensor]] = {s: [] for s in SUBSPACES}
        for index, level in enumerate(batch.levels):
            token, looked = self.aggregate(self.project(level.tokens, index), level)
            for s in SUBSPACES:
                tokens[s].append(token[s])
                attention[s].append(looked[s])
        return combined(self.head, self.kind, batch, tokens, attention)


def build(dims: ModelDims, sections: ModelSections) -> Student | GeneImputationStudent:
    """Build an untrained student of the architecture in ``distillation.architecture``."""
    if sections.distillation.architecture == "gene_imputation":
        return GeneImputationStudent(dims, sections.model, sections.teacher)
    return Student(dims, sections.model, sections.distillation.aggregation)


MODELS = (
    ModelEntry(
        "student",
        label="student",
        description="Sees the slide only; learned from the teacher's predictions and features",
        family="ours",
        inputs=("slide",),
        requires=("slide",),
        paper="arXiv:2508.16479",
        build=build,
    ),
    ModelEntry(
        "student_undistilled",
        label="student, undistilled",
        description="Sees the slide only; the student's network trained without the teacher",
        family="ours",
        inputs=("slide",),
        requires=("slide",),
        build=build,
    ),
)
