"""Spatial validation from the stores of a cohort to the files of a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dml.cohorts.spot_store import SpotTable, read_spots
from dml.config import params as config
from dml.core.errors import InputError
from dml.core.types import Cohort
from dml.data.cohort_store import CohortStore
from dml.report.context import read_cohort_description
from dml.spatial.comparison import Settings
from dml.spatial.section_maps import SpatialCohort
from dml.spatial.spatial_page import SpatialReport, write_report
from dml.spatial.validation import NOT_SPATIAL, SpatialValidation, validate_model
from dml.training.checkpoint import FoldModel


def read_spatial_cohort(store: CohortStore) -> SpotTable:
    """Read the spots of a cohort.

    Raises
    ------
    InputError
        If it has none.
    """
    spots = read_spots(store.folder)
    if not len(spots.spots):
        raise InputError(store.folder, NOT_SPATIAL, "Describe its spots under `spatial:` and run: dvc repro spots")
    return spots


def settings_of(params: config.Params, spacing_um: float, draws: int | None = None) -> Settings:
    """Return the settings of params.yaml, blocks in spots; `draws` overrides."""
    block = max(1, round(params.spatial_validation.block_um / spacing_um))
    chosen = params.spatial_validation.draws if draws is None else draws
    return Settings(chosen, params.spatial_validation.resamples, block, params.evaluation.confidence, params.seed)


def validate_and_report(
    models: Mapping[str, Sequence[FoldModel]],
    store: CohortStore,
    spots: SpotTable,
    units: Cohort,
    settings: Settings,
    out: Path,
    source: str,
    output: str | None = None,
) -> list[SpatialValidation]:
    """Validate models of one task on a spatial cohort and write the report.

    Parameters
    ----------
    models : mapping
        Name of each model to its folds.
    units : Cohort
        The cohort's units with the features that the models read.
    source : str
        What the models are, for the page.
    """
    data = SpatialCohort.of(store, spots, units)
    validations = [validate_model(name, folds, data, settings, output) for name, folds in models.items()]
    description, licence = read_cohort_description(store.folder.name, store.folder.parent.parent)
    patients = int(spots.spots["patient_id"].nunique())
    sizes = spots.spacing_um, spots.spot_diameter_um
    task = validations[0].task
    report = SpatialReport(
        store.folder.name, task, description, licence, source, *sizes, settings, validations, patients
    )
    write_report(report, out)
    return validations
