"""Attention-based multiple-instance learning (Ilse et al. 2018, arXiv 1802.04712)."""

from collections.abc import Mapping

from torch import Tensor

from dml.config import params as config
from dml.core.types import MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import LevelEncoding, MultiScaleModel
from dml.models.nn.attention import GatedAttention


class Abmil(MultiScaleModel):
    """Predicts from an attention-weighted mean token; magnifications share the attention."""

    branches = ("slide",)
    pools_linearly = True

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        self.pool = GatedAttention(config.width, config.width)
        self.head = self.make_head(dims, config)

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Pool the tokens by gated attention."""
        embedding, attention = self.pool(tokens, level.mask)
        return LevelEncoding({"slide": embedding}, {"slide": attention})


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
