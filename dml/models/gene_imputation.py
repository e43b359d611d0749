"""The alternative to a student of its own: the teacher, with gene embeddings generated from the slide.

    o_s    = MLP_s(mean over the magnifications of the mean token)
    f, p   = Teacher(slide, o)                       the teacher's weights are frozen

TrainingResult with the student's losses, so that its tokens and predictions come out as if the genes had been measured.

Shape legend: b patients, d width.
"""

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, ModelOutput
from dml.data.dims import ModelDims
from dml.models.nn.blocks import masked_mean
from dml.models.nn.head import SubspaceHead
from dml.models.teacher import Teacher


class GeneImputationStudent(nn.Module):
    """Predicts from slides alone through a frozen teacher; only the decoders of the gene embeddings learn."""

    def __init__(self, shape: ModelDims, model: config.Model, teacher: config.Teacher) -> None:
        super().__init__()
        self.teacher = Teacher(shape, model, teacher)
        self.decode = nn.ModuleDict(
            {
                s: nn.Sequential(
                    nn.Linear(model.width, model.gene_width),
                    nn.GELU(),
                    nn.Dropout(model.dropout),
                    nn.Linear(model.gene_width, model.width),
                )
                for s in SUBSPACES
            }
        )

    @property
    def head(self) -> SubspaceHead:
        """The teacher's."""
        return self.teacher.head

    def adopt(self, teacher: Teacher) -> None:
        """Take over a trained teacher and freeze it."""
        self.teacher.load_state_dict(teacher.state_dict())
        self.teacher.requires_grad_(False)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; transcriptomes in it are not looked at."""
        pooled = [
            masked_mean(self.teacher.project(level.tokens, i), level.mask) for i, level in enumerate(batch.levels)
        ]
        mean: Tensor = torch.stack(pooled).mean(0)  # b d
        return self.teacher.read(batch, {s: self.decode[s](mean) for s in SUBSPACES})
