"""The student: slide only. Per magnification, tokens become one embedding per subspace (arXiv 2508.16479).

    embedding_s^m = Aggregation_s(P^m)
    logits        = BranchHead(embedding_T, embedding_M, z)

Its branches have the teacher's names, tumor and TME, so that each is distilled from its own counterpart.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry, ModelSections
from dml.models.gene_imputation import GeneImputationStudent
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.aggregation import DensityPeaks, NoAggregation, SubspaceQueries

AGGREGATIONS = {"subspace_queries": SubspaceQueries, "density_peaks": DensityPeaks}


class Student(MultiScaleModel):
    """Predicts from slides alone; transcriptomes in the batch are ignored."""

    branches = SUBSPACES
    has_auxiliary = True

    def __init__(self, dims: ModelDims, config: config.Model, aggregation: str) -> None:
        super().__init__(dims, config)
        self.aggregate: nn.Module
        if aggregation == "none":
            self.aggregate = NoAggregation(config.width)
        else:
            make = AGGREGATIONS[aggregation]
            self.aggregate = make(config.width, config.heads, config.n_queries, config.dropout)
        self.head = self.make_head(dims, config)

    @classmethod
    def build(cls, dims: ModelDims, sections: ModelSections) -> "Student":
        """Build an untrained student."""
        return cls(dims, sections.model, sections.distillation.aggregation)

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Aggregate the tokens into one embedding per subspace."""
        return LevelEncoding(*self.aggregate(tokens, level))


def build(dims: ModelDims, sections: ModelSections) -> Student | GeneImputationStudent:
    """Build an untrained student of the architecture in ``distillation.architecture``."""
    if sections.distillation.architecture == "gene_imputation":
        return GeneImputationStudent(dims, sections.model, sections.teacher)
    return Student.build(dims, sections)


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
        build=Student.build,
    ),
)
