"""A cohort with painted slides, one without pixels and one without coordinates, fold models, and the viewer of them."""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from dml.cohorts.slide_table import SCHEMA
from dml.core.files import digest, write_parquet
from dml.core.types import Cohort
from dml.data.cohort_store import CohortStore
from dml.data.example_cohort import example_cohort
from dml.inference.ensemble import Ensemble
from dml.viewer.app import Viewer, make_app
from dml.viewer.guard import Guard
from dml.viewer.slide_collection import CohortSlides, SlideEntry
from tests.dml.attribution.test_attribute import fold_model
from tests.painted import tissue_pixels, write_slide
from tests.synthetic import write_store

PORT, TOKEN = 8899, "the-token"
HOST = f"http://127.0.0.1:{PORT}"
PAINTED, WITHOUT_PIXELS, WITHOUT_COORDINATES, OUTSIDE, UNENCODED = "P001", "P002", "P003", "P000", "P004"


def _cohort() -> Cohort:
    cohort, bare = example_cohort(12), example_cohort(12, has_coords=False)
    cases = [b if b.patient_id == WITHOUT_COORDINATES else c for c, b in zip(cohort.cases, bare.cases, strict=True)]
    cases = [replace(c, bags={}) if c.patient_id == UNENCODED else c for c in cases]
    return replace(cohort, cases=tuple(cases))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> CohortStore:
    data = tmp_path_factory.mktemp("view") / "data"
    cohort = _cohort()
    store = write_store(cohort, data / "synthetic")
    raw = data / "raw/synthetic"
    write_slide(raw / f"{PAINTED}.tif", tissue_pixels(1700, 1500), mpp=0.5)
    secret = write_slide(data / "elsewhere/secret.tif", tissue_pixels(600, 600), mpp=0.5)
    (raw / f"{OUTSIDE}.tif").symlink_to(secret)
    write_slide(raw / f"{UNENCODED}.tif", tissue_pixels(700, 600), mpp=0.5)
    painted = (PAINTED, OUTSIDE, UNENCODED)
    rows = [
        {
            "slide_id": f"slide-{case.patient_id}",
            "patient_id": case.patient_id,
            "path": str(raw / f"{case.patient_id}.tif") if case.patient_id in painted else None,
            "mpp": None,
        }
        for case in cohort.cases
    ]
    write_parquet(store.slides_path, pa.Table.from_pylist(rows, schema=SCHEMA))
    return store


def ensemble(task: str = "survival", trained_with: tuple[tuple[str, ...], ...] = ((), ())) -> Ensemble:
    """Two folds, each trained with some patients."""
    folds = []
    for number, patients in enumerate(trained_with):
        fold = fold_model("student", task, True, fold=number)
        hashes = tuple(sorted(digest(patient) for patient in patients))
        folds.append(replace(fold, spec=fold.spec.model_copy(update={"training_patient_hashes": hashes})))
    return Ensemble(tuple(folds))


@pytest.fixture(scope="session")
def viewer(store: CohortStore) -> Iterator[Viewer]:
    models = ensemble()
    viewer = Viewer(CohortSlides(store, models.spec), models, "student")
    yield viewer
    viewer.close()


@pytest.fixture
def client(viewer: Viewer) -> TestClient:
    """A browser that came with the token."""
    client = guarded(viewer)
    assert client.get(f"/?token={TOKEN}", follow_redirects=False).status_code == 303
    return client


def guarded(viewer: Viewer) -> TestClient:
    """A browser that did not."""
    return TestClient(Guard(make_app(viewer), PORT, TOKEN), base_url=HOST)


def slide_of(viewer: Viewer, patient: str) -> SlideEntry:
    (entry,) = [entry for entry in viewer.slides.values() if entry.patient_id == patient]
    return entry


def wait_for_map(viewer: Viewer, patient: str) -> None:
    viewer.maps.request(patient).exception(60)
