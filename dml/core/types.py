"""Boundary types, frozen. Units are types; `mask` True = real token, `event` True = death was observed, times in days.

Shape legend: b patients, n tokens, d token width, g genes, k classes or time bins, c covariates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, NewType, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:  # most stages need these types and not a second of imports
    from torch import Tensor

Mpp = NewType("Mpp", float)
"""Microns per pixel. 20x is about 0.5, 10x about 1.0; magnification is derived from it, never from a pyramid level."""
Microns = NewType("Microns", float)
SlidePixels = NewType("SlidePixels", int)
"""Pixels of the slide's finest level (level 0)."""

Subspace = Literal["tumor", "tme"]
SUBSPACES: tuple[Subspace, ...] = get_args(Subspace)

SURVIVAL = "survival"
"""Name of the task that is not a label of a cohort."""
Kind = Literal["survival", "classification", "regression"]
"""Kind of a task."""
Source = Literal["slide", "genes", "clinical"]
"""What a model may read of a patient."""
CLINICAL = ("age", "sex")
"""Covariates of a patient, where known."""


def magnification(mpp: float) -> float:
    """Objective power of a resolution by the usual convention 10 / mpp (0.5 microns per pixel = 20x)."""
    return 10.0 / mpp


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles of one slide at one resolution. `coords_px` are top-left corners in level-0 pixels."""

    coords_px: Int[np.ndarray, "n 2"]
    coords_um: Float[np.ndarray, "n 2"]
    tissue: Float[np.ndarray, n]
    tile_px: int
    mpp: Mpp
    slide_mpp: Mpp

    @property
    def tile_um(self) -> Microns:
        """Side of a tile in microns."""
        return Microns(self.tile_px * self.mpp)


@dataclass(frozen=True, slots=True)
class Bag:
    """Patch tokens of one patient at one resolution; `slide` is the number of the patient's slide a token is from.

    `coords_um` are tile centres in microns from the slide's top-left corner, None for features without coordinates.

    Examples
    --------
    >>> import torch
    >>> Bag(torch.zeros(3, 8), None, torch.zeros(3, dtype=torch.long), Mpp(0.5), Microns(128.0), "uni").tokens.shape
    torch.Size([3, 8])
    """

    tokens: Float[Tensor, "n d"]
    coords_um: Float[Tensor, "n 2"] | None
    slide: Int[Tensor, n]
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

    `expression` is in the gene order of the cohort; `labels` (classes), `values` (numbers) and `covariates` hold only
    what is known. A patient without bags, expression or label is valid.
    """

    patient_id: str
    site: str
    bags: MultiScaleBags
    expression: Float[np.ndarray, g] | None = None
    survival: Survival | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    covariates: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def has_slide(self) -> bool:
        """Whether there is a token at any magnification."""
        return any(len(bag) > 0 for bag in self.bags.values())

    @property
    def has_expression(self) -> bool:
        """Whether there is a transcriptome."""
        return self.expression is not None

    @property
    def has_clinical(self) -> bool:
        """Whether age or sex is known."""
        return any(name in self.covariates for name in CLINICAL)

    def has(self, source: Source) -> bool:
        """Whether the patient has an input; one known covariate is enough, the other is imputed."""
        return {"slide": self.has_slide, "genes": self.has_expression, "clinical": self.has_clinical}[source]

    def target(self, task: str) -> Survival | str | float | None:
        """Return what was observed for a task (follow-up, class or number), None if unknown."""
        if task == SURVIVAL:
            return self.survival
        return self.values.get(task, self.labels.get(task))

    def has_target(self, task: str) -> bool:
        """Whether the outcome of a task is known."""
        return self.target(task) is not None

    def target_values(self, task: str) -> dict[str, float | bool | str]:
        """Return what was observed as the target columns of predictions; empty if unknown."""
        if task in self.values:
            return {"target": self.values[task]}
        if task != SURVIVAL:
            return {"label": self.labels[task]} if task in self.labels else {}
        return {} if self.survival is None else {"days": self.survival.days, "event": self.survival.event}


@dataclass(frozen=True, slots=True)
class GeneGroups:
    """Genes of the tumor and of its microenvironment; disjoint, in a fixed order."""

    tumor: tuple[str, ...]
    tme: tuple[str, ...]
    provenance: str = ""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Patients with the gene order of their expression vectors and the declared classes of each label.

    A label without classes is a number: a target of regression.

    Examples
    --------
    >>> case = Case("P1", "site A", {}, labels={"grade": "G2"})
    >>> cohort = Cohort("demo", (case,), (), "log2_tpm", GeneGroups((), ()), {"grade": ("G2", "G3")})
    >>> [patient.has_target("grade") for patient in cohort.subset({"P1"}).cases]
    [True]
    """

    name: str
    cases: tuple[Case, ...]
    genes: tuple[str, ...]
    unit: str
    groups: GeneGroups
    classes: Mapping[str, tuple[str, ...]]

    def subset(self, patient_ids: set[str]) -> Cohort:
        """Return the cohort restricted to some patients: fitting code receives this, never the whole cohort."""
        return replace(self, cases=tuple(case for case in self.cases if case.patient_id in patient_ids))


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
    has_coords: Bool[Tensor, b]
    parent: Int[Tensor, "b n"] | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """Scaled expression of a batch, per subspace; rows of absent transcriptomes are zero and `present` False."""

    tumor: Float[Tensor, "b g_t"]
    tme: Float[Tensor, "b g_m"]
    present: Bool[Tensor, b]

    def __getitem__(self, subspace: str) -> Tensor:
        """Return the genes of one subspace."""
        return self.tumor if subspace == "tumor" else self.tme


@dataclass(frozen=True, slots=True)
class SurvivalTarget:
    """Discrete-time target: the bin of the event or of the last follow-up. `known` False = no follow-up."""

    kind: ClassVar[Kind] = "survival"
    bin: Int[Tensor, b]
    event: Bool[Tensor, b]
    days: Float[Tensor, b]
    known: Bool[Tensor, b]
    exposure: Float[Tensor, b] | None = None  # share of the bin that had passed then; None: does not count


@dataclass(frozen=True, slots=True)
class ClassTarget:
    """Class index per patient; `known` False = no label (the index is then 0 and must not be used)."""

    kind: ClassVar[Kind] = "classification"
    label: Int[Tensor, b]
    known: Bool[Tensor, b]


@dataclass(frozen=True, slots=True)
class NumberTarget:
    """Number per patient, in training standard deviations from the training mean; `known` False = not measured."""

    kind: ClassVar[Kind] = "regression"
    value: Float[Tensor, b]
    known: Bool[Tensor, b]


Target = SurvivalTarget | ClassTarget | NumberTarget


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of a model: levels from the finest to the coarsest resolution, expression, covariates, target.

    `auxiliary` are other labels of the same patients, used in training only. `offset` is the linear model's prediction,
    added to the logits (one column to all outputs), `offset_without_genes` that of one without the transcriptome.
    `programs` are gene programs of each subspace, targets of the student.
    """

    patient_ids: tuple[str, ...]
    levels: tuple[MagnificationTokens, ...]
    expression: Expression
    covariates: Float[Tensor, "b c"]
    target: Target
    auxiliary: Mapping[str, ClassTarget] = field(default_factory=dict)
    offset: Float[Tensor, "b _"] | None = None
    offset_without_genes: Float[Tensor, "b _"] | None = None
    programs: Mapping[str, Float[Tensor, "b _"]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Output of a model; a branch is a part of it with an embedding: subspaces "tumor" and "tme", or a modality.

    Attributes
    ----------
    embeddings : mapping
        Branch to its embedding (b d), also ``output[branch]``.
    logits : Tensor, b k
        Of the task.
    attention : mapping
        Branch to one distribution per level over its tokens (rows sum to 1, 0 on padding); empty without.
    auxiliary : mapping
        Auxiliary label to its logits.
    predicted_genes : mapping
        Branch to the scaled genes predicted from the attended tokens of each level.
    programs : mapping
        Subspace to the gene programs predicted from its token.
    terms, degraded : mapping, ModelOutput or None
        In training only: weighted terms of the model's own loss (`dml.models.model_terms`); output of a damaged view.
    """

    embeddings: Mapping[str, Float[Tensor, "b d"]]
    logits: Float[Tensor, "b k"]
    attention: Mapping[str, tuple[Float[Tensor, "b n"], ...]] = field(default_factory=dict)
    auxiliary: Mapping[str, Float[Tensor, "b _"]] = field(default_factory=dict)
    predicted_genes: Mapping[str, tuple[Float[Tensor, "b _"], ...]] = field(default_factory=dict)
    programs: Mapping[str, Float[Tensor, "b _"]] = field(default_factory=dict)
    terms: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)
    degraded: ModelOutput | None = None

    def __getitem__(self, branch: str) -> Tensor:
        """Return the embedding of one branch."""
        return self.embeddings[branch]
