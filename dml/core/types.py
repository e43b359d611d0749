"""Boundary types, frozen. Units are types; `mask` True = real token, `event` True = death was seen, times in days.

Shape legend: b patients, n tokens, d token width, g genes, k classes or time bins, c covariates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

Mpp = NewType("Mpp", float)
"""Microns per pixel. 20x is about 0.5, 10x about 1.0; magnification is derived from it, never from a pyramid level."""
Microns = NewType("Microns", float)
SlidePixels = NewType("SlidePixels", int)
"""Pixels of the slide's finest level (level 0)."""

Subspace = Literal["tumor", "tme"]
SUBSPACES: tuple[Subspace, ...] = get_args(Subspace)

SURVIVAL = "survival"
"""The task that is no label of a cohort."""


def magnification(mpp: float) -> float:
    """Objective power of a resolution by the usual convention 10 / mpp (0.5 microns per pixel = 20x)."""
    return 10.0 / mpp


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles of one slide at one resolution. `coords_px` are top-left corners in level-0 pixels."""

    coords_px: Int[np.ndarray, "n 2"]
    coords_um: Float[np.ndarray, "n 2"]
    tissue: Float[np.ndarray, "n"]
    tile_px: int
    mpp: Mpp
    slide_mpp: Mpp

    @property
    def tile_um(self) -> Microns:
        """Side of a tile in microns."""
        return Microns(self.tile_px * self.mpp)


@dataclass(frozen=True, slots=True)
class Bag:
    """Patch tokens of one patient at one resolution; `slide` tells which of the patient's slides a token is from.

    `coords_um` are tile centres in microns from the slide's top-left corner, None for features without coordinates.
    """

    tokens: Float[Tensor, "n d"]
    coords_um: Float[Tensor, "n 2"] | None
    slide: Int[Tensor, "n"]
    mpp: Mpp
    tile_um: Microns
    encoder: str

    def __len__(self) -> int:
        return int(self.tokens.shape[0])


MultiScaleBags = Mapping[Mpp, Bag]
"""The bags of one patient by resolution."""


@dataclass(frozen=True, slots=True)
class Survival:
    """Follow-up of one patient."""

    days: float
    event: bool


@dataclass(frozen=True, slots=True)
class Case:
    """One patient as stored: nothing here is scaled, binned or imputed.

    `expression` is in the gene order of the cohort it belongs to; `labels` holds only known labels;
    `covariates` may miss entries. No bag, no expression and no label are all normal.
    """

    patient_id: str
    site: str
    bags: MultiScaleBags
    expression: Float[np.ndarray, "g"] | None = None
    survival: Survival | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    covariates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GeneGroups:
    """Which genes speak for the tumor and which for its microenvironment; disjoint, in a fixed order."""

    tumor: tuple[str, ...]
    tme: tuple[str, ...]
    provenance: str = ""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Patients with the gene order of their expression vectors and the declared classes of each label."""

    name: str
    cases: tuple[Case, ...]
    genes: tuple[str, ...]
    unit: str
    groups: GeneGroups
    classes: Mapping[str, tuple[str, ...]]

    def subset(self, patient_ids: set[str]) -> "Cohort":
        """Return the cohort restricted to some patients: what fitting code is handed is this, never the whole."""
        kept = tuple(case for case in self.cases if case.patient_id in patient_ids)
        return Cohort(self.name, kept, self.genes, self.unit, self.groups, self.classes)


@dataclass(frozen=True, slots=True)
class MagnificationTokens:
    """The padded tokens of a batch at one resolution.

    `parent[b, i]` is the index of the coarser level's token in which the centre of token i lies, -1 where there is none
    (padding, no coordinates, or no such tile); None at the coarsest level.
    """

    mpp: Mpp
    tokens: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]
    coords_um: Float[Tensor, "b n 2"]
    has_coords: Bool[Tensor, "b"]
    parent: Int[Tensor, "b n"] | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """Scaled expression of a batch, per subspace; rows of absent transcriptomes are zero and `present` False."""

    tumor: Float[Tensor, "b g_t"]
    tme: Float[Tensor, "b g_m"]
    present: Bool[Tensor, "b"]

    def of(self, subspace: Subspace) -> Tensor:
        """Return the genes of one subspace."""
        return self.tumor if subspace == "tumor" else self.tme


@dataclass(frozen=True, slots=True)
class SurvivalTarget:
    """Discrete-time target: the bin of the event or of the last follow-up. `known` False = no follow-up."""

    bin: Int[Tensor, "b"]
    event: Bool[Tensor, "b"]
    days: Float[Tensor, "b"]
    known: Bool[Tensor, "b"]


@dataclass(frozen=True, slots=True)
class ClassTarget:
    """Class index per patient; `known` False = no label (the index is then 0 and must not be used)."""

    label: Int[Tensor, "b"]
    known: Bool[Tensor, "b"]


Target = SurvivalTarget | ClassTarget


@dataclass(frozen=True, slots=True)
class Batch:
    """What a model sees: levels from the finest to the coarsest resolution, expression, covariates, target.

    `auxiliary` are other labels of the same patients, by name: learnt beside the task, never asked for when predicting.
    `offset` is the linear model's prediction, added to the logits (one column is added to all outputs), and
    `offset_without_genes` that of a model which does not read the transcriptome.
    """

    patient_ids: tuple[str, ...]
    levels: tuple[MagnificationTokens, ...]
    expression: Expression
    covariates: Float[Tensor, "b c"]
    target: Target
    auxiliary: Mapping[str, ClassTarget] = field(default_factory=dict)
    start: Float[Tensor, "b _"] | None = None
    offset_without_genes: Float[Tensor, "b _"] | None = None


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What a model returns: one token per subspace, logits, and per level where each subspace looked.

    `attention[s][i]` is a distribution over the tokens of level i (rows sum to 1, 0 on padding); empty when not asked
    for. `auxiliary` are the logits of other labels that were learnt beside the task, `expressed[s][i]` the scaled genes
    of a subspace as the tissue of level i tells them.
    """

    tumor: Float[Tensor, "b d"]
    tme: Float[Tensor, "b d"]
    logits: Float[Tensor, "b k"]
    attention: Mapping[Subspace, tuple[Float[Tensor, "b n"], ...]] = field(default_factory=dict)
    auxiliary: Mapping[str, Float[Tensor, "b _"]] = field(default_factory=dict)
    expressed: Mapping[Subspace, tuple[Float[Tensor, "b _"], ...]] = field(default_factory=dict)

    def of(self, subspace: Subspace) -> Tensor:
        """Return the token of one subspace."""
        return self.tumor if subspace == "tumor" else self.tme
