"""The alternative to a student network: the teacher, with gene embeddings imputed from the slide.

    o_s    = MLP_s(mean over the magnifications of the mean token)
    f, p   = Teacher(slide, o)                       the teacher's weights are frozen

Trained with the student's losses, so that its embeddings and predictions approach those with measured genes.

Shape legend: b patients, d width.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, ModelOutput
from dml.data.dims import ModelDims
from dml.models.frozen_teacher import FrozenTeacherStudent


class GeneImputationStudent(FrozenTeacherStudent):
    """Predicts from slides alone through a frozen teacher; only the imputation of the gene embeddings is trained."""

    def __init__(self, dims: ModelDims, config: config.Model, teacher: config.Teacher) -> None:
        super().__init__(dims, config, teacher)
        self.impute = nn.ModuleDict(
            {
                s: nn.Sequential(
                    nn.Linear(config.width, config.gene_width),
                    nn.GELU(),
                    nn.Dropout(config.dropout),
                    nn.Linear(config.gene_width, config.width),
                )
                for s in SUBSPACES
            }
        )

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; transcriptomes in it are ignored."""
        return self.teacher.predict(batch, self.embed_genes(batch))

    def embed_genes(self, batch: Batch) -> Mapping[str, Tensor]:
        """Impute the gene embeddings (b d) of each subspace from the slide."""
        mean = self.slide_token(batch, self.project(batch))
        return {s: self.impute[s](mean) for s in SUBSPACES}
