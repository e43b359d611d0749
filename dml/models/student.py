"""The student: slide only. Per magnification, tokens become one embedding per subspace (arXiv 2508.16479).

    embedding_s^m = Aggregation_s(P^m)
    logits        = BranchHead(embedding_T, embedding_M, z)

With ``distillation.zoom`` it reads the coarsest magnification first, and finer tiles only where it attends there.

Its branches have the teacher's names, tumor and TME, so that each is distilled from its own counterpart.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, MagnificationTokens, ModelOutput
from dml.data.dims import ModelDims
from dml.models.completed_genes import CompletedGenesStudent
from dml.models.entry import ModelEntry, ModelSections
from dml.models.frozen_teacher import FrozenTeacherStudent
from dml.models.gene_imputation import GeneImputationStudent
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.aggregation import DensityPeaks, NoAggregation, SubspaceQueries
from dml.models.nn.zoom import attended_children

AGGREGATIONS = {"subspace_queries": SubspaceQueries, "density_peaks": DensityPeaks}
FROZEN_TEACHERS: Mapping[str, Callable[..., FrozenTeacherStudent]] = {
    "gene_imputation": GeneImputationStudent,
    "completed_genes": CompletedGenesStudent,
}
"""Architectures that are the frozen teacher."""


class Student(MultiScaleModel):
    """Predicts from slides alone; transcriptomes in the batch are ignored."""

    branches = SUBSPACES
    has_auxiliary = True

    def __init__(self, dims: ModelDims, config: config.Model, aggregation: str, zoom: float | None = None) -> None:
        super().__init__(dims, config)
        self.zoom = zoom
        self.aggregate: nn.Module
        if aggregation == "none":
            self.aggregate = NoAggregation(config.width)
        else:
            make = AGGREGATIONS[aggregation]
            self.aggregate = make(config.width, config.heads, config.n_queries, config.dropout)
        self.head = self.make_head(dims, config)
        self.predict_programs = nn.ModuleDict({s: nn.Linear(config.width, p) for s, p in dims.programs.items()})

    @classmethod
    def build(cls, dims: ModelDims, sections: ModelSections) -> "Student":
        """Build an untrained student."""
        return cls(dims, sections.model, sections.distillation.aggregation, sections.distillation.zoom)

    def select_tokens(self, batch: Batch) -> Batch:
        """Mask all tiles but those inside of the most attended tiles of the next coarser level, from the coarsest."""
        if self.zoom is None:
            return batch
        levels = list(batch.levels)
        with torch.no_grad():
            for i in reversed(range(1, len(levels))):
                attention = self.encode(self.project(levels[i].tokens, i), levels[i], {}).attention
                mean = torch.stack([attention[s] for s in SUBSPACES]).mean(0)
                levels[i - 1] = replace(
                    levels[i - 1], mask=attended_children(levels[i - 1], levels[i], mean, self.zoom)
                )
        return replace(batch, levels=tuple(levels))

    def predict(self, batch: Batch, genes: Mapping[str, Tensor]) -> ModelOutput:
        """Predict a batch, and the gene programs of each subspace from its token where they are taught."""
        output = super().predict(batch, genes)
        programs = {s: layer(output[s]) for s, layer in self.predict_programs.items()}
        return replace(output, programs=programs) if programs else output

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Aggregate the tokens into one embedding per subspace."""
        return LevelEncoding(*self.aggregate(tokens, level))


def build(dims: ModelDims, sections: ModelSections) -> Student | FrozenTeacherStudent:
    """Build an untrained student of the architecture in ``distillation.architecture``."""
    make = FROZEN_TEACHERS.get(sections.distillation.architecture)
    return Student.build(dims, sections) if make is None else make(dims, sections.model, sections.teacher)


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
