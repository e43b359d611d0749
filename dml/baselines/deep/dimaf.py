"""After DIMAF (MICCAI 2025): four attention blocks between slide and pathways, made independent of each other.

    z_gg = Attention(G, G),  z_hh = Attention(H, H)        specific: of one modality
    z_gh = Attention(G, H),  z_hg = Attention(H, G)        shared: queries of one, keys of the other
    L    = L_task + w (dCor(z_gh + z_hg, z_gg) + dCor(z_gh + z_hg, z_hh) + dCor(z_gg, z_hh)) / 3

G: pathway tokens, H: slide prototypes, z: means of tokens, dCor: distance correlation. Differs from the paper:
prototypes are learned with the task, the loss is the one of all models here instead of Cox's, and the distance
correlation is computed on at least 64 patients. Without transcriptome only z_hh is left.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import Batch, Expression
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.model_terms import TermModel, Terms
from dml.models.multi_scale import LevelEncoding
from dml.models.nn.cross_attention import CrossAttention
from dml.models.nn.pathways import PathwayEncoder
from dml.models.nn.prototypes import Prototypes
from dml.models.nn.shared_specific import EmbeddingMemory
from dml.training.loss_terms.disentanglement import distance_correlation
from dml.training.model_objective import ModelTermsObjective

WEIGHT = 0.5
"""Weight of the distance correlation, as in the authors' configuration."""
PROTOTYPES = 16
MEMORY = 64
"""Patients on which the distance correlation is computed, from when so many have been seen."""
MIN_PATIENTS = 4


class Dimaf(TermModel):
    """Predicts from slide and transcriptome; `disentangles` off is the plain backbone: the same without the term."""

    branches = ("genes", "genes_of_slide", "slide_of_genes", "slide")
    disentangles: ClassVar[bool] = True

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        self.pathways = PathwayEncoder(dims, config.gene_width, config.width, config.dropout)
        self.prototypes = Prototypes(config.width, PROTOTYPES)
        self.attend = nn.ModuleDict(
            {name: CrossAttention(config.width, config.heads, config.dropout) for name in self.branches}
        )
        self.memories = nn.ModuleList(EmbeddingMemory(MEMORY) for _ in range(dims.levels))
        self.head = self.make_head(dims, config)

    def embed_genes(self, expression: Expression) -> Mapping[str, Tensor]:
        """Embed the pathways."""
        return {"pathways": self.pathways(expression)}

    def encode_with_terms(
        self, tokens: Tensor, index: int, genes: Mapping[str, Tensor], batch: Batch
    ) -> tuple[LevelEncoding, Terms]:
        """Attend within and between pathways and prototypes."""
        mask = batch.levels[index].mask
        slide, attention = self.prototypes(tokens, mask)
        pathways, present = genes["pathways"], batch.expression.present
        has_genes, has_slide = (
            there[:, None].expand(-1, tokens_of.shape[1])
            for there, tokens_of in ((present, pathways), (mask.any(1), slide))
        )
        pairs = {
            "genes": (pathways, pathways, has_genes),
            "genes_of_slide": (pathways, slide, has_slide),
            "slide_of_genes": (slide, pathways, has_genes),
            "slide": (slide, slide, has_slide),
        }
        embeddings = {name: self.attend[name](*pair)[0].mean(1) for name, pair in pairs.items()}
        for name in ("genes", "genes_of_slide", "slide_of_genes"):
            embeddings[name] = embeddings[name] * present[:, None]
        terms: dict[str, Tensor] = {}
        if self.disentangles and self.training and int(present.sum()) >= MIN_PATIENTS:
            remembered = self.memories[index]({name: x[present] for name, x in embeddings.items()})
            terms = {"disentanglement": WEIGHT * _dependence(remembered)}
        return LevelEncoding(embeddings, {"slide": attention}), terms


class PlainDimaf(Dimaf):
    """The backbone: the four blocks, trained for the task alone."""

    disentangles = False


def _dependence(parts: Mapping[str, Tensor]) -> Tensor:
    """Return the mean distance correlation of shared and specific parts, and of the two specific ones."""
    shared = parts["genes_of_slide"] + parts["slide_of_genes"]
    pairs = [(shared, parts["genes"]), (shared, parts["slide"]), (parts["genes"], parts["slide"])]
    return torch.stack([distance_correlation(x, y) for x, y in pairs]).mean()


MODELS = ModelEntry(
    "dimaf",
    label="DIMAF-style",
    description="Slide prototypes and pathways: four attention blocks made independent (after DIMAF)",
    family="deep",
    inputs=("slide", "genes"),
    requires=("slide",),
    paper="DIMAF, MICCAI 2025",
    build=Dimaf.build,
    objective=ModelTermsObjective,
).with_plain(PlainDimaf.build, "distance correlation")
