"""Sections of params.yaml about data: tiles, features, checks, folds, inputs."""

from itertools import pairwise
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dml.config.base import Fraction, Section

Severity = Literal["error", "warning", "ignore"]
TestPopulation = Literal["paired", "slide"]


class Tiles(Section):
    """Tiling: at each resolution a grid of square tiles; the grids nest."""

    mpps: tuple[PositiveFloat, ...] = Field((0.5, 1.0), min_length=1, description="microns per pixel; 0.5 = 20x")
    tile_px: PositiveInt = 256
    min_tissue: Fraction = Field(0.5, description="share of a tile that must be tissue")
    min_tissue_coarse: Fraction | None = Field(
        None, description="the same for coarser grids; default none: the tile around a fine one is always taken"
    )
    remove_ink: bool = Field(True, description="leave out pen strokes; false for trichrome, alcian blue and the like")
    max_tiles: PositiveInt = Field(5000, description="per slide and resolution; of more, an evenly spaced subset")
    workers: PositiveInt = 2
    max_failed: Fraction = Field(0.1, description="share of slides that may fail before the stage does")

    @model_validator(mode="after")
    def _nested(self) -> "Tiles":
        ordered = sorted(self.mpps)
        for fine, coarse in pairwise(ordered):
            ratio = coarse / fine
            if abs(ratio - round(ratio)) > 1e-6 or round(ratio) < 2:
                raise ValueError(
                    f"mpps must be whole multiples of each other so that tiles nest; {fine} and {coarse} are not"
                )
        return self


class Embed(Section):
    """Tile encoder and how it runs. `source` import: features were extracted elsewhere."""

    source: Literal["slides", "import"] = "slides"
    encoder: str = "efficientnet_lite0"
    batch_size: PositiveInt = 32
    workers: PositiveInt = 2
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    runtime: Literal["auto", "torch", "onnxruntime", "openvino"] = Field(
        "torch", description="auto: ONNX Runtime on a CPU where the network can be exported, else PyTorch"
    )
    stain_normalisation: Literal["macenko"] | None = Field(
        None, description="give the tiles of every slide the stains of a reference slide"
    )

    @model_validator(mode="after")
    def _has_pixels(self) -> "Embed":
        if self.stain_normalisation and self.source == "import":
            raise ValueError("stain_normalisation changes pixels, and source: import reads none; set it to null")
        return self


class Scale(Section):
    """Executor of the work on slides. Results are the same bits, so no stage depends on this section."""

    engine: Literal["local", "ray"] = "local"
    address: str | None = Field(None, description="of a Ray cluster; default RAY_ADDRESS, else Ray on this machine")
    retries: int = Field(3, ge=0, description="attempts for a slide whose Ray process or machine died")


class Checks(Section):
    """Thresholds of the cohort checks."""

    min_gene_coverage: Fraction = Field(0.8, description="share of each gene group that must be measured")
    min_matched: Fraction = Field(
        0.5, description="share of ids of two tables (of the smaller one) that must be the same"
    )
    min_patients: PositiveInt = 20
    max_failed_slides: Fraction = Field(0.1)
    min_class_size: PositiveInt = 5
    min_site_patients: PositiveInt = Field(10, description="sites of fewer patients are not compared with the rest")
    max_drift: Fraction = Field(0.25, description="share of genes or feature dimensions a site may be off in")
    min_on_tissue: Fraction = Field(0.5, description="share of the spots of a section that must be on tissue")
    severity: dict[str, Severity] = Field(
        default_factory=dict, description="<table>.<expectation> as in the summary: error, warning or ignore"
    )


class Split(Section):
    """Patient-level folds; `stratify` names the columns that are balanced; `group_sites` keeps a site in one fold."""

    test_population: TestPopulation = Field(
        "paired",
        description="patients with slide and transcriptome, or all with a slide; others train only",
    )
    validation_share: float = Field(0.2, gt=0, lt=1)
    stratify: tuple[str, ...] = ("event",)
    group_sites: bool = False

    @property
    def inner_folds(self) -> int:
        """Inner folds of a fold of enough patients: each is about the validation share."""
        return max(1, round(1 / self.validation_share) - 1) + 1


class Inputs(Section):
    """Inputs of the models beside slide and transcriptome, and their targets."""

    covariates: tuple[str, ...] = Field((), description="clinical columns known wherever a slide is: age, sex")
    time_bins: PositiveInt = Field(4, ge=2, description="discrete-time bins, quantiles of the training events")
    auxiliary: tuple[str, ...] = Field((), description="labels of training patients, predicted beside the task")
    clinical: tuple[str, ...] = Field((), description="optional inputs of the student: age, sex, labels; each may lack")
    clinical_dropout: float = Field(0.3, ge=0, lt=1, description="share of clinical inputs hidden in training")

    @model_validator(mode="after")
    def _unique_inputs(self) -> "Inputs":
        names = [*self.covariates, *self.clinical]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"covariates and clinical: {', '.join(repeated)} is there twice")
        return self
