"""Gated attention-based multiple-instance learning (Ilse et al. 2018, arXiv 1802.04712).

One space: the head's tumor and tme halves read the same pooled token.
"""

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, ModelOutput
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.nn.blocks import TokenProjection
from dml.models.nn.gated import GatedAttention
from dml.models.nn.head import SubspaceHead, SubspaceModel, combined


class Abmil(SubspaceModel):
    """Predicts from an attention-weighted mean token of each magnification; magnifications share the attention."""

    def __init__(self, shape: ModelDims, model: config.Model) -> None:
        super().__init__()
        self.kind = shape.kind
        self.project = TokenProjection(shape.token_width, model.width, shape.levels, model.dropout)
        self.pool = GatedAttention(model.width, model.width)
        self.head = SubspaceHead(model.width, shape.outputs, shape.covariates, model.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; `attention` is the attention."""
        pooled = [self.pool(self.project(level.tokens, i), level.mask) for i, level in enumerate(batch.levels)]
        tokens, attention = [token for token, _ in pooled], [weights for _, weights in pooled]
        return combined(
            self.head, self.kind, batch, dict.fromkeys(SUBSPACES, tokens), dict.fromkeys(SUBSPACES, attention)
        )


MODEL = ModelEntry(
    "abmil",
    label="ABMIL",
    description="Slide only: gated attention pooling (Ilse 2018)",
    family="deep",
    inputs=("slide",),
    requires=("slide",),
    paper="arXiv:1802.04712",
    build=Abmil.build,
)
