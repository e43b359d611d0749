"""After CLAM (Lu et al. 2021, Nature Biomedical Engineering): gated attention, and clustering of tiles in training.

    f = sum_n a_n P_n                                               gated attention, as ABMIL
    L = L_task + w (tiles of most attention are distinguished from those of least, by classifier c(label))

Differs from the paper: cross-entropy instead of a smoothed SVM loss, and for survival and numbers, which have no class,
one classifier for all patients. Tiles of other classes' classifiers are not trained on. Its backbone without the
clustering is `abmil`.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import Batch, ClassTarget
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.model_terms import TermModel, Terms
from dml.models.multi_scale import LevelEncoding
from dml.models.nn.attention import GatedAttention
from dml.training.model_objective import ModelTermsObjective

WEIGHT = 0.3
"""Weight of the clustering, as in the authors' code (bag 0.7, tiles 0.3)."""
TILES = 8
"""Tiles at either end of the attention, at most half of a patient's each."""


class Clam(TermModel):
    """Predicts from an attention-weighted mean token."""

    branches = ("slide",)

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        self.pool = GatedAttention(config.width, config.width)
        self.classify = nn.Linear(config.width, dims.outputs if dims.kind == "classification" else 1)
        self.head = self.make_head(dims, config)

    def encode_with_terms(
        self, tokens: Tensor, index: int, genes: Mapping[str, Tensor], batch: Batch
    ) -> tuple[LevelEncoding, Terms]:
        """Pool the tokens by gated attention."""
        mask = batch.levels[index].mask
        embedding, attention = self.pool(tokens, mask)
        terms: dict[str, Tensor] = {}
        if self.training:
            most, least = select_ends(attention.detach(), mask, TILES)
            scores, known = self._scores(tokens, batch), batch.target.known[:, None]
            terms = {"tile_clustering": WEIGHT * _cross_entropy(scores, most & known, least & known)}
        return LevelEncoding({"slide": embedding}, {"slide": attention}), terms

    def _scores(self, tokens: Tensor, batch: Batch) -> Tensor:
        """Return the score of each tile (b n) by the classifier of its patient's class."""
        scores: Tensor = self.classify(tokens)
        if isinstance(batch.target, ClassTarget):
            label = batch.target.label[:, None, None].expand(-1, scores.shape[1], 1)
            return scores.gather(2, label)[..., 0]
        return scores[..., 0]


def select_ends(attention: Tensor, mask: Tensor, tiles: int) -> tuple[Tensor, Tensor]:
    """Return masks (b n) of the tiles of most and of least attention; at most half of a patient's tiles each.

    Examples
    --------
    >>> import torch
    >>> most, least = select_ends(torch.tensor([[0.5, 0.2, 0.3, 0.0]]), torch.tensor([[True, True, True, False]]), 8)
    >>> most.tolist(), least.tolist()
    ([[True, False, False, False]], [[False, True, False, False]])
    """
    order = attention.masked_fill(~mask, -1.0).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    total = mask.sum(1, keepdim=True)
    each = (total // 2).clamp_max(tiles)
    return (rank < each) & mask, (rank >= total - each) & mask


def _cross_entropy(scores: Tensor, most: Tensor, least: Tensor) -> Tensor:
    chosen = (most | least).to(scores.dtype)
    losses = nn.functional.binary_cross_entropy_with_logits(scores, most.to(scores.dtype), reduction="none")
    return (losses * chosen).sum() / chosen.sum().clamp_min(1.0)


MODEL = ModelEntry(
    "clam",
    label="CLAM-style",
    description="Slide only: gated attention with clustering of tiles in training (after CLAM, Lu 2021)",
    family="deep",
    inputs=("slide",),
    requires=("slide",),
    paper="arXiv:2004.09666",
    build=Clam.build,
    objective=ModelTermsObjective,
    backbone="abmil",
)
