"""Mean pooling: the mean of all projected tokens and a linear head. The least that attention must improve on."""

from collections.abc import Mapping

from torch import Tensor

from dml.config import params as config
from dml.core.types import MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.blocks import masked_mean, uniform_attention


class MeanPool(MultiScaleModel):
    """Predicts from the mean token."""

    branches = ("slide",)
    pools_linearly = True

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        self.head = self.make_head(dims, config)

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Average the tokens."""
        return LevelEncoding({"slide": masked_mean(tokens, level.mask)}, {"slide": uniform_attention(level.mask)})


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
