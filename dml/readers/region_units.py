"""Regions of sections as learning units: how large they are, what keeps them together, what is predicted of them."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dml.config.params import Section

TargetKind = Literal["share", "proportion", "signature", "dominant"]


class RegionTarget(Section):
    """One value or class of a region, computed from its spots.

    share: share of its annotated spots whose annotation is one of `values`. proportion: mean over its spots of the
    summed proportions of the cell types `values`. signature: mean of log2(CPM + 1) over the genes `values` (or a gene
    group, ``tumor`` or ``tme``) in the summed counts of its spots. dominant: the most frequent annotation, one of the
    classes `values`; unknown where it has less than `min_share` of the spots.
    """

    kind: TargetKind
    values: tuple[str, ...] = Field(min_length=1)
    without: tuple[str, ...] = Field(
        default=(), description="annotations whose spots do not count, such as adipose tissue for proportions"
    )
    min_share: float = Field(default=0.5, ge=0, le=1, description="dominant: least share of the most frequent class")
    min_spots: PositiveInt = Field(default=1, description="spots that must be known; else the target is unknown")

    @model_validator(mode="after")
    def _two_classes(self) -> "RegionTarget":
        if self.kind == "dominant" and len(self.values) < 2:
            raise ValueError("dominant: `values` lists the classes, at least two")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the target in order; none where it is a number."""
        return self.values if self.kind == "dominant" else ()


class RegionUnits(Section):
    """Cut each section into square regions that are learnt from and predicted as patients are elsewhere."""

    size_um: PositiveFloat = Field(description="side of a region in microns: a multiple of the coarsest tile's side")
    min_spots: PositiveInt = Field(default=4, description="regions of fewer spots on tissue are left out")
    group: Literal["patient", "section"] = Field(
        default="patient", description="what never straddles folds; section only where all are of one patient"
    )
    targets: dict[str, RegionTarget] = Field(default_factory=dict)
