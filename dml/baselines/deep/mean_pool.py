"""Mean pooling: the mean of all projected tokens, a linear head. What attention must beat.

One space: the head's tumor and tme halves read the same token, and their sum is the linear map.
"""

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, ModelOutput
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.nn.blocks import TokenProjection, masked_mean
from dml.models.nn.head import SubspaceHead, SubspaceModel, combined


class MeanPool(SubspaceModel):
    """Predicts from the mean token of each magnification."""

    def __init__(self, shape: ModelDims, model: config.Model) -> None:
        super().__init__()
        self.kind = shape.kind
        self.project = TokenProjection(shape.token_width, model.width, shape.levels, model.dropout)
        self.head = SubspaceHead(model.width, shape.outputs, shape.covariates, model.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; `attention` is uniform."""
        tokens, attention = [], []
        for index, level in enumerate(batch.levels):
            tokens.append(masked_mean(self.project(level.tokens, index), level.mask))
            attention.append(level.mask / level.mask.sum(1, keepdim=True).clamp_min(1))
        return combined(
            self.head, self.kind, batch, dict.fromkeys(SUBSPACES, tokens), dict.fromkeys(SUBSPACES, attention)
        )


MODEL = ModelEntry(
    "mean_pool",
    label="mean pooling",
    description="Network on the mean of the slide's tile features",
    family="deep",
    inputs=("slide",),
    requires=("slide",),
    paper="instance-embedding mean pooling, as in arXiv:1802.04712",
    build=MeanPool.build,
)
