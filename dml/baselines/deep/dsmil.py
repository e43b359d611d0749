"""After DSMIL (Li et al. 2021, CVPR, arXiv 2011.08939): a critical tile, and attention by likeness to it.

    c   = argmax_n w.P_n                                 stream 1: the critical tile
    a   = softmax_n(Q P_n . Q P_c / sqrt(d))             stream 2: tiles like it
    f   = [P_c; sum_n a_n V P_n]                         logits of both streams are added

Differs from the paper: one critical tile instead of one for each class, whose score learns straight through the choice,
so that survival and numbers have one, too. Its backbone without the streams is `abmil`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.attention import attention_weights


class Dsmil(MultiScaleModel):
    """Predicts from a critical tile and from the tiles like it."""

    branches = ("critical", "slide")

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        self.score = nn.Linear(config.width, 1, bias=False)
        self.query, self.values = nn.Linear(config.width, config.width), nn.Linear(config.width, config.width)
        self.head = self.make_head(dims, config)

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Choose the critical tile, and attend to those like it."""
        critical = (choose(self.score(tokens)[..., 0], level.mask)[:, None] @ tokens)[:, 0]
        queries = self.query(tokens)
        weights = attention_weights(self.query(critical)[:, None, None], queries[:, None], level.mask)[:, 0]  # b 1 n
        similar = (weights @ self.values(tokens))[:, 0]
        return LevelEncoding({"critical": critical, "slide": similar}, {"slide": weights[:, 0]})


def choose(scores: Tensor, mask: Tensor) -> Tensor:
    """Return weights (b n) that are 1 at the highest score and 0 elsewhere, with the gradient of their softmax."""
    soft = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=1) * mask
    hard = nn.functional.one_hot(soft.argmax(1), scores.shape[1]).to(soft.dtype) * mask
    return hard + soft - soft.detach()


MODEL = ModelEntry(
    "dsmil",
    label="DSMIL-style",
    description="Slide only: a critical tile and the tiles like it (after DSMIL, Li 2021)",
    family="deep",
    inputs=("slide",),
    requires=("slide",),
    paper="arXiv:2011.08939",
    build=Dsmil.build,
    backbone="abmil",
)
