"""The painted spatial cohort and the teacher and student trained on it, once for all tests."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from dml.cohorts.spot_store import SpotTable, read_spots
from dml.core.types import Cohort
from dml.data.cohort_store import CohortStore
from dml.spatial.section_maps import SpatialCohort
from dml.training.checkpoint import FoldModel
from dml.training.model_store import ModelStore
from tests import painted_sections


@dataclass(frozen=True)
class Painted:
    root: Path
    store: CohortStore
    models: ModelStore
    folds: list[FoldModel]
    spots: SpotTable
    cohort: Cohort
    data: SpatialCohort


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    root = tmp_path_factory.mktemp("sections")
    store = painted_sections.write_cohort(root)
    models = ModelStore.of(painted_sections.COHORT, painted_sections.TASK, root / "models")
    folds = painted_sections.train_folds(store, models)
    cohort = store.cohort(painted_sections.ENCODER, painted_sections.PARAMS.tiles.mpps)
    spots = read_spots(store.folder)
    return Painted(root, store, models, folds, spots, cohort, SpatialCohort.of(store, spots, cohort))
