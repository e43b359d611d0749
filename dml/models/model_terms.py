"""Networks with loss terms beside the task: what a published method adds to its own training.

A network computes its terms where it computes what they are about, in training only; each is weighted already. The
objective of `dml.training.model_objective` adds them to the task's loss, by name, so that the training history has
them.

Shape legend: b patients, n tokens, d width.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from dml.core.types import Batch, MagnificationTokens, ModelOutput
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.head import fuse_magnifications

Terms = Mapping[str, Float[Tensor, ""]]
"""Weighted loss terms by name."""


class TermModel(MultiScaleModel):
    """A multi-scale network with loss terms of its own; those of each magnification are averaged.

    A subclass implements `encode_with_terms` in place of `encode`.
    """

    @abstractmethod
    def encode_with_terms(
        self, tokens: Float[Tensor, "b n d"], index: int, genes: Mapping[str, Tensor], batch: Batch
    ) -> tuple[LevelEncoding, Terms]:
        """Encode one magnification; terms are needed in training only, and may be empty.

        Parameters
        ----------
        tokens : Tensor, b n d
            Projected patch tokens of ``batch.levels[index]``.
        index : int
            Number of the magnification.
        genes : mapping
            What `embed_genes` returned.
        batch : Batch
            All of the patients.
        """

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Not used: terms need the batch."""
        raise TypeError(f"{type(self).__name__} encodes a magnification with its batch: encode_with_terms")

    def predict(self, batch: Batch, genes: Mapping[str, Tensor]) -> ModelOutput:
        """Predict a batch whose gene embeddings are given."""
        encoded = [
            self.encode_with_terms(self.project(level.tokens, i), i, genes, batch)
            for i, level in enumerate(batch.levels)
        ]
        levels, shared = [level for level, _ in encoded], self.shared_embeddings(batch.expression)
        embeddings = {s: [{**shared, **level.embeddings}[s] for level in levels] for s in self.branches}
        output = fuse_magnifications(self.head, self.dims.kind, batch, embeddings)
        attention = {s: tuple(level.attention[s] for level in levels) for s in levels[0].attention}
        terms = average_terms([terms for _, terms in encoded]) if self.training else {}
        return replace(output, attention=attention, terms=terms)


def average_terms(levels: Sequence[Terms]) -> dict[str, Tensor]:
    """Return the mean of each term over magnifications.

    Examples
    --------
    >>> average_terms([{"similarity": torch.tensor(1.0)}, {"similarity": torch.tensor(3.0)}])
    {'similarity': tensor(2.)}
    """
    return {name: torch.stack([terms[name] for terms in levels]).mean() for name in levels[0]}
