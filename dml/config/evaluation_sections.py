"""Sections of params.yaml about evaluation, teachability, probes and the gates of promotion."""

from pydantic import Field, PositiveFloat, PositiveInt

from dml.config.base import Fraction, Section


class Evaluation(Section):
    """Resampling and time points of the evaluation."""

    resamples: PositiveInt = 2000
    confidence: float = Field(0.95, gt=0, lt=1)
    years: tuple[PositiveFloat, ...] = (1.0, 2.0, 3.0, 5.0)
    subgroups: dict[str, dict[str, tuple[str, ...]]] = Field(
        default_factory=dict, description="name: {column: allowed values}; metrics are repeated inside each"
    )
    min_patients: PositiveInt = Field(20, description="a row of the subgroup table has as many test patients")
    min_events: PositiveInt = Field(10, description="... and deaths, or patients outside its commonest value")
    adjust_for: tuple[str, ...] = Field(
        ("age", "sex", "grade", "idh"), description="columns beside the risk group in the Cox model, where known"
    )


class Teachability(Section):
    """What is predicted from the slide before anything is trained, and which folds."""

    slide_components: PositiveInt | None = Field(
        None, description="principal components of the slide before the ridge regression; null = all columns"
    )
    gene_components: PositiveInt = Field(10, description="principal components of the genes to be predicted")
    min_set_genes: PositiveInt = Field(5, description="measured genes of a gene set for it to be a target")
    unseen_sites: bool = Field(True, description="repeat on folds whose test sites are not learned from")


class Probes(Section):
    """Probes of what models rely on: missing or exchanged genes, site, subspaces, permuted outcomes."""

    missing_fractions: tuple[Fraction, ...] = Field(
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), description="shares of test patients whose transcriptome is hidden"
    )
    repeats: PositiveInt = Field(5, description="random orders of hiding, and permutations of patients")
    components: PositiveInt = Field(3, description="principal components of each gene group to be predicted")
    min_site_patients: PositiveInt = Field(5, description="training patients of a site for it to be a class")
    faithfulness_patients: int = Field(
        30, ge=0, description="test patients whose tiles are deleted and inserted by contribution; 0 = none"
    )
    neighbours: PositiveInt = Field(30, description="similar learning patients whose outcomes predict a test patient")
    permutations: int = Field(0, ge=0, description="trainings per fold on permuted outcomes; 0 = none")


class CaseBank(Section):
    """Learning patients that are packed with a model, so that similar ones are found."""

    thumbnails: bool = Field(True, description="pack a small picture of a slide of each patient")


class SpatialComparison(Section):
    """Spatial validation: draws of the null, and blocks of the intervals."""

    draws: int = Field(999, ge=99, description="moves of every section under the null")
    resamples: PositiveInt = Field(1000, description="of spatial blocks within sections")
    block_um: PositiveFloat = Field(800.0, description="side of a block in microns")


class Promotion(Section):
    """Gates between a registered challenger and the alias champion."""

    floors: dict[str, float] = Field(
        {"c_index": 0.6, "auc": 0.6, "spearman": 0.2}, description="lowest value of a metric"
    )
    calibration: dict[str, tuple[float, float]] = Field(
        {"calibration_slope": (0.4, 2.5), "ece": (0.0, 0.25), "coverage": (0.6, 0.95)},
        description="lowest and highest value of a measure",
    )
    subgroup_floor: float = Field(
        0.5, description="lowest C or AUC inside each subgroup of evaluation.subgroups; of Spearman 0.5 less"
    )
    max_teacher_gap: float = Field(0.1, ge=0, description="how far below its teacher's main metric a student may be")
    non_inferiority_margin: float = Field(
        0.05, ge=0, description="how far below the champion's main metric the challenger may be"
    )
    confidence: float = Field(0.9, gt=0, lt=1, description="of the interval of the paired difference")
