"""Base of all networks: named branches, a head over them, and one encoding per magnification."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import Batch, Expression, MagnificationTokens, ModelOutput
from dml.data.dims import ModelDims
from dml.models.entry import ModelSections
from dml.models.nn.blocks import TokenProjection
from dml.models.nn.head import BranchHead, fuse_magnifications


@dataclass(frozen=True, slots=True)
class LevelEncoding:
    """What a model makes of one magnification.

    Attributes
    ----------
    embeddings : mapping
        Branch to its embedding (b d).
    attention : mapping
        Branch (or gene group) to its attention over the tokens (b n), rows of sum 1 and 0 on padding.
    predicted_genes : mapping
        Branch to the scaled genes predicted from the attended tokens; empty for most models.
    """

    embeddings: Mapping[str, Float[Tensor, "b d"]]
    attention: Mapping[str, Float[Tensor, "b n"]]
    predicted_genes: Mapping[str, Float[Tensor, "b _"]] = field(default_factory=dict)


class BranchModel(nn.Module, ABC):
    """A network that predicts through a head over named branches.

    Attributes
    ----------
    branches : tuple of str
        Parts of the model with an embedding of their own.
    has_auxiliary : bool
        Whether the head also predicts auxiliary labels.
    """

    branches: ClassVar[tuple[str, ...]]
    has_auxiliary: ClassVar[bool] = False
    head: BranchHead

    @classmethod
    def build(cls, dims: ModelDims, sections: ModelSections) -> "BranchModel":
        """Build an untrained model from the sections of params.yaml."""
        return cls(dims, sections.model)

    def make_head(self, dims: ModelDims, config: config.Model) -> BranchHead:
        """Return an untrained head over the branches."""
        auxiliary = dims.auxiliary if self.has_auxiliary else None
        return BranchHead(
            self.branches, config.width, dims.outputs, dims.covariates, config.dropout, auxiliary, dims.clinical
        )


class MultiScaleModel(BranchModel):
    """A network that encodes each magnification by itself; magnifications are fused by certainty.

    A subclass names its `branches`, makes its modules and then its head (initial weights are drawn in this order), and
    implements `encode`; see `dml.baselines.deep.mean_pool` for the shortest.

    Attributes
    ----------
    pools_linearly : bool
        Whether each embedding is the attention-weighted mean of the projected tokens.
    """

    pools_linearly: ClassVar[bool] = False

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__()
        self.dims = dims
        self.project = TokenProjection(dims.token_width, config.width, dims.levels, config.dropout)

    @abstractmethod
    def encode(
        self, tokens: Float[Tensor, "b n d"], level: MagnificationTokens, genes: Mapping[str, Tensor]
    ) -> LevelEncoding:
        """Encode one magnification.

        Parameters
        ----------
        tokens : Tensor, b n d
            Projected patch tokens.
        level : MagnificationTokens
            Their mask and positions.
        genes : mapping
            What `embed_genes` returned for the batch.
        """

    def embed_genes(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed the transcriptomes of a batch for `encode`; nothing for a model that does not use them there."""
        return {}

    def shared_embeddings(self, expression: Expression) -> Mapping[str, Tensor]:
        """Return the embeddings of branches that are the same at all magnifications; none for most models."""
        return {}

    def select_tokens(self, batch: Batch) -> Batch:
        """Mask the tokens that this network does not read; it reads all of them unless a subclass zooms."""
        return batch

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch."""
        return self.predict(self.select_tokens(batch), self.embed_genes(batch.expression))

    def predict(self, batch: Batch, genes: Mapping[str, Tensor]) -> ModelOutput:
        """Predict a batch whose gene embeddings are given."""
        levels, embeddings = self.encode_levels(batch, genes)
        output = fuse_magnifications(self.head, self.dims.kind, batch, embeddings)
        attention = {s: tuple(level.attention[s] for level in levels) for s in levels[0].attention}
        genes_by_level = {s: tuple(level.predicted_genes[s] for level in levels) for s in levels[0].predicted_genes}
        return replace(output, attention=attention, predicted_genes=genes_by_level)

    def encode_levels(
        self, batch: Batch, genes: Mapping[str, Tensor]
    ) -> tuple[list[LevelEncoding], dict[str, list[Tensor]]]:
        """Encode every magnification; return the encodings, and the embeddings (b d) of each branch at each."""
        levels = [self.encode(self.project(level.tokens, i), level, genes) for i, level in enumerate(batch.levels)]
        shared = self.shared_embeddings(batch.expression)
        return levels, {s: [{**shared, **level.embeddings}[s] for level in levels] for s in self.branches}
