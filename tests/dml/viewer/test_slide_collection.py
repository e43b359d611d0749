"""Which slides are listed, and which files may be opened: none outside of the cohort's raw files or of the folder."""

from pathlib import Path

import pytest

from dml.core.errors import ConfigError, InputError
from dml.data.cohort_store import CohortStore
from dml.registry.model_folder import model_folder
from dml.registry.predict import request_table
from dml.viewer.map_cache import select_folds
from dml.viewer.model_source import make_viewer
from dml.viewer.slide_collection import OUTSIDE as LEADS_OUT
from dml.viewer.slide_collection import CohortSlides, FolderSlides, by_key
from tests.dml.viewer.conftest import OUTSIDE, PAINTED, UNENCODED, WITHOUT_PIXELS, ensemble
from tests.painted import tissue_pixels, write_slide


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Slides of which two are links that lead out."""
    secret = write_slide(tmp_path / "secret/secret.tif", tissue_pixels(300, 300))
    folder = tmp_path / "slides"
    write_slide(folder / "a.tif", tissue_pixels(300, 300))
    write_slide(folder / "deep/b.tif", tissue_pixels(300, 300))
    (folder / "c.tif").symlink_to(secret)
    (folder / "d.tif").symlink_to("a.tif")
    (folder / "e.tif").symlink_to("../secret/secret.tif")
    return folder


def test_a_cohort_lists_each_slide_with_status_and_outcome(store: CohortStore) -> None:
    slides = {entry.patient_id: entry for entry in CohortSlides(store, ensemble().spec).entries()}
    assert len(slides) == 12
    assert slides[PAINTED].status == "ok"
    assert slides[PAINTED].file == (store.raw_folder / f"{PAINTED}.tif").resolve()
    assert (slides[WITHOUT_PIXELS].file, slides[WITHOUT_PIXELS].status) == (None, "ok")
    assert (slides[OUTSIDE].file, slides[OUTSIDE].status) == (None, LEADS_OUT)
    assert "no features" in slides[UNENCODED].status
    assert all(entry.outcome.split(" at ")[0] in ("died", "censored") for entry in slides.values())


def test_ids_hold_no_path_and_are_the_same_at_every_start(store: CohortStore) -> None:
    first, second = (CohortSlides(store, ensemble().spec).entries() for _ in range(2))
    assert first == second
    assert len(by_key(first)) == 12
    assert all(entry.key.isalnum() and entry.patient_id not in entry.key for entry in first)


@pytest.mark.parametrize(
    "path", ["../secret.tif", "/etc/passwd", "synthetic/../../elsewhere/secret.tif", "..", "", None]
)
def test_paths_of_a_slide_table_that_lead_out_are_not_opened(store: CohortStore, path: str | None) -> None:
    collection = CohortSlides(store, ensemble().spec)
    raw = store.raw_folder.parent
    assert collection._file(path)[0] is None
    assert collection._file(None if path is None else f"{raw}/{path}")[0] is None
    assert collection._file(f"{raw}/synthetic/{PAINTED}.tif")[0] is not None


def test_the_raw_folder_itself_may_be_a_link(store: CohortStore, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/linked").symlink_to(store.raw_folder)
    collection = CohortSlides(CohortStore(tmp_path / "linked"), ensemble().spec)
    assert collection._file(f"{tmp_path}/raw/linked/{PAINTED}.tif")[0] is not None
    assert collection._file(f"{tmp_path}/raw/linked/{OUTSIDE}.tif") == (None, LEADS_OUT)


def test_links_out_of_a_folder_are_listed_and_not_opened(folder: Path) -> None:
    entries = {e.slide_id: e for e in FolderSlides(folder, request_table(folder), ensemble().spec).entries()}
    assert {name: entry.status for name, entry in entries.items()} == {
        "a": "ok", "b": "ok", "c": LEADS_OUT, "d": "ok", "e": LEADS_OUT,
    }  # fmt: skip
    assert entries["c"].file is entries["e"].file is None
    assert entries["b"].file == (folder / "deep/b.tif").resolve()


def test_features_behind_a_link_that_leads_out_are_not_read(folder: Path, store: CohortStore) -> None:
    spec = ensemble().spec
    for mpp in ("0.5", "1"):
        (folder / mpp).mkdir()
        (folder / mpp / "x.parquet").symlink_to(store.bag_path("fake", float(mpp), f"slide-{PAINTED}"))
    collection = FolderSlides(folder, request_table(folder), spec)
    patient = next(entry.patient_id for entry in collection.entries() if entry.slide_id == "x")
    with pytest.raises(Exception, match="not a file that this service reads"):
        collection.read_patient(patient)


def test_a_patient_is_mapped_by_models_that_never_saw_it() -> None:
    models = ensemble(trained_with=(("a", "b"), ("b", "c")))
    assert [select_folds(models, patient) for patient in "ac"] == [(models.folds[1],), (models.folds[0],)]
    assert select_folds(models, "stranger") == models.folds
    with pytest.raises(InputError, match="every model was trained with it"):
        select_folds(models, "b")


def test_what_cannot_be_shown_is_refused(store: CohortStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of --cohort and --slides"):
        make_viewer("m")
    with pytest.raises(InputError, match="neither a folder nor a registered model"):
        model_folder("nothing")
    for number, fold in enumerate(ensemble().folds):
        fold.save(tmp_path / f"model/fold-{number}")
    with pytest.raises(InputError, match="does not exist"):
        make_viewer(str(tmp_path / "model"), slides=tmp_path / "absent")
    (tmp_path / "list.csv").write_text("patient_id,path\np,/etc/passwd\n")
    with pytest.raises(InputError, match="a table of slides"):
        make_viewer(str(tmp_path / "model"), slides=tmp_path / "list.csv")
