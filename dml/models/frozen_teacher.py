"""Base of students that are the frozen teacher, with gene embeddings that are completed from the slide.

Shape legend: b patients, n tokens, d width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import Batch
from dml.data.dims import ModelDims
from dml.models.nn.blocks import masked_mean
from dml.models.teacher import Teacher


class FrozenTeacherStudent(nn.Module, ABC):
    """Predicts from slides alone through a frozen teacher; only what completes the gene embeddings is trained."""

    def __init__(self, dims: ModelDims, config: config.Model, teacher: config.Teacher) -> None:
        super().__init__()
        self.teacher = Teacher(dims, config, teacher)

    def load_teacher(self, teacher: Teacher) -> None:
        """Copy the weights of a trained teacher and freeze them."""
        self.teacher.load_state_dict(teacher.state_dict())
        self.teacher.requires_grad_(False)

    @abstractmethod
    def embed_genes(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return the gene embeddings (b d) of each subspace by the slide; transcriptomes in the batch are ignored."""

    def project(self, batch: Batch) -> list[Tensor]:
        """Return the teacher's projected tokens (b n d) of each magnification."""
        return [self.teacher.project(level.tokens, i) for i, level in enumerate(batch.levels)]

    def slide_token(self, batch: Batch, tokens: Sequence[Tensor]) -> Float[Tensor, "b d"]:
        """Return the mean over the magnifications of the mean projected token (b n d)."""
        pooled = [masked_mean(x, level.mask) for x, level in zip(tokens, batch.levels, strict=True)]
        return torch.stack(pooled).mean(0)
