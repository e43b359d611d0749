"""Which files are predicted and of which patients; where predictions go."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from dml.config.params import Params
from dml.core.errors import InputError
from dml.core.files import read_parquet, write_json, write_parquet
from dml.data.feature_store import write_bag
from dml.encoders import registry as encoders
from dml.registry import predict as prediction
from dml.registry.registration import register
from dml.registry.versions import load
from tests import painted
from tests.trained_models import ENCODER, WIDTH, write_folds


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def patients(table: pd.DataFrame) -> dict[str, str]:
    return {Path(path).name: patient for path, patient in zip(table["path"], table["patient_id"], strict=True)}


def test_folder_gives_slides_and_features_but_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "TCGA-02-0001-01Z.svs", "deep/b.TIFF", "c.h5", "notes.txt", "manifest.parquet")
    assert patients(prediction.request_table(tmp_path)) == {
        "TCGA-02-0001-01Z.svs": "TCGA-02-0001",
        "b.TIFF": "b",
        "c.h5": "c",
    }


def test_one_file_stands_for_all_resolutions_of_the_store(tmp_path: Path) -> None:
    for mpp in ("0.5", "1"):
        for slide, patient in (("s1", "p1"), ("s2", None)):
            write_parquet(tmp_path / mpp / f"{slide}.parquet", pa.table({"x": [1]}), {"patient_id": patient})
    table = prediction.request_table(tmp_path)
    assert patients(table) == {"s1.parquet": "p1", "s2.parquet": "s2"}
    assert {Path(path).parent.name for path in table["path"]} == {"0.5"}


def test_the_slide_table_has_the_patient_of_a_slide(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "b.svs")
    rows = pa.table({"slide_id": ["S-A", "b"], "patient_id": ["p1", "p2"], "path": ["raw/a.svs", None]})
    write_parquet(tmp_path / "slides.parquet", rows)
    result = prediction.request_table(tmp_path, slide_table=tmp_path / "slides.parquet")
    assert patients(result[result["path"].str.endswith("svs")]) == {"a.svs": "p1", "b.svs": "p2"}


def test_slides_of_an_imported_cohort_are_known_by_its_table(tmp_path: Path) -> None:
    touch(tmp_path, "data/raw/demo/slides/a.svs")
    rows = pa.table({"slide_id": ["a"], "patient_id": ["p1"], "path": ["data/raw/demo/slides/a.svs"]})
    write_parquet(tmp_path / "data/demo/slides.parquet", rows)
    assert patients(prediction.request_table(tmp_path / "data/raw/demo/slides")) == {"a.svs": "p1"}


def test_images_are_slides_where_nothing_else_is(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg", "photos/b.JPEG", "photos/c.png", "mixed/a.svs", "mixed/a.jpg")
    assert set(patients(prediction.request_table(tmp_path / "photos"))) == {"a.jpg", "b.JPEG", "c.png"}
    assert set(patients(prediction.request_table(tmp_path / "mixed"))) == {"a.svs"}


def test_the_resolution_is_that_of_the_slide_table_else_the_one_given(tmp_path: Path) -> None:
    touch(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg")
    rows = {
        "slide_id": ["a1", "a2", "b"],
        "patient_id": ["p1", "p2", "p3"],
        "path": ["a.jpg", "a.jpg", "b.jpg"],
        "mpp": [0.69, 0.69, None],
    }
    write_parquet(tmp_path / "slides.parquet", pa.table(rows))
    photos, slides = tmp_path / "photos", tmp_path / "slides.parquet"
    table = prediction.request_table(photos, slide_table=slides, mpp=0.5, upsample=True)
    assert patients(table) == {"a.jpg": "a", "b.jpg": "p3", "c.jpg": "c"}, "two patients on one image: neither"
    assert table["mpp"].tolist() == [0.69, 0.5, 0.5]
    assert table["upsample"].all()
    assert "mpp" not in prediction.request_table(photos)
    (tmp_path / "list.csv").write_text("patient_id,path,mpp\n1,a.jpg,0.7\n2,b.jpg,\n")
    assert prediction.request_table(tmp_path / "list.csv", mpp=0.4)["mpp"].tolist() == [0.7, 0.4]


def test_single_file_is_tried_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "odd.name")
    table = prediction.request_table(tmp_path / "odd.name", expression=Path("genes.csv"))
    assert table.to_dict("records") == [
        {"patient_id": "odd", "path": str(tmp_path / "odd.name"), "expression": "genes.csv"}
    ]


def test_list_of_slides_as_a_table(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("patient_id,path,age,ward\n007,a.svs,61,3\n007,b.svs,61,3\n")
    table = prediction.request_table(tmp_path / "list.csv")
    assert table.columns.tolist() == ["patient_id", "path", "age"]
    assert table["patient_id"].tolist() == ["007", "007"]
    (tmp_path / "list.csv").write_text("patient,path\n1,a.svs\n")
    with pytest.raises(InputError, match="no column patient_id"):
        prediction.request_table(tmp_path / "list.csv")


def test_no_slide_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        prediction.request_table(tmp_path / "absent")
    with pytest.raises(InputError, match="no slide or feature file"):
        prediction.request_table(tmp_path)


def test_predictions_are_written_in_three_formats(tmp_path: Path) -> None:
    table = pd.DataFrame({"patient_id": ["007", "b"], "status": ["ok", "refused"], "risk": [0.5, float("nan")]})
    for name in ("out.csv", "out.parquet", "out.json"):
        prediction.write_table(table, tmp_path / name)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv", dtype={"patient_id": str}), table)
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "out.parquet")[0].to_pandas(), table)
    assert json.loads((tmp_path / "out.json").read_text())[1] == {"patient_id": "b", "status": "refused", "risk": None}
    with pytest.raises(InputError, match="unknown output format"):
        prediction.write_table(table, tmp_path / "out.xlsx")


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    table = pd.DataFrame({"patient_id": ["=1+1", "+a", "-b", "@c", "d-1"], "risk": [-0.5, 1.0, -1e-9, 0.0, 2.0]})
    prediction.write_table(table, tmp_path / "out.csv")
    read = pd.read_csv(tmp_path / "out.csv")
    assert read["patient_id"].tolist() == ["'=1+1", "'+a", "'-b", "'@c", "d-1"]
    assert read["risk"].tolist() == table["risk"].tolist()


def test_slides_on_disk_are_encoded_and_predicted_or_refused(
    client: MlflowClient, params: Callable[..., Params], tmp_path: Path
) -> None:
    encoders.register(painted.fake_card(ENCODER))
    tissue = painted.tissue_pixels(2048, 2048)
    painted.write_slide(tmp_path / "slides/TCGA-02-0001-01Z.tif", tissue)
    painted.write_slide(tmp_path / "slides/glass.tif", np.full_like(tissue, 244))
    (tmp_path / "slides/broken.tif").write_bytes(b"II*\0 and then nothing")
    write_folds(Path("models/demo/survival/student"), "student", mpps=(0.5, 1.0))
    write_json(Path("reports/demo/survival/metrics.json"), {"student": {"c_index": {"value": 0.7}}})
    name = register(params(), "survival", "student").name
    result = prediction.predict(f"{name}@challenger", tmp_path / "slides").set_index("patient_id")
    assert result["status"].to_dict() == {"TCGA-02-0001": "ok", "broken": "refused", "glass": "refused"}
    assert result.loc["TCGA-02-0001", "survival_365"] > result.loc["TCGA-02-0001", "survival_730"] > 0
    assert "no tissue" in result.loc["glass", "reason"]
    assert "broken.tif" in result.loc["broken", "reason"]
    painted.write_image(tmp_path / "photos/TCGA-02-0001-01Z.png", tissue)
    same, unknown = (prediction.predict(f"{name}@challenger", tmp_path / "photos", mpp=mpp) for mpp in (0.5, None))
    # the levels of the slide are averages of rounded averages
    assert same["risk"][0] == pytest.approx(result.loc["TCGA-02-0001", "risk"], abs=0.01)
    assert "microns per pixel unknown" in unknown["reason"][0]
    coarse = [prediction.predict(f"{name}@challenger", tmp_path / "photos", mpp=0.8, upsample=u) for u in (True, False)]
    assert [table["status"][0] for table in coarse] == ["ok", "refused"]
    assert "--upsample of dml predict" in coarse[1]["reason"][0]


def test_a_table_of_clinical_inputs_is_added_by_patient(tmp_path: Path) -> None:
    table, path = pd.DataFrame({"patient_id": ["1", "2"], "path": ["a", "b"]}), tmp_path / "clinical.csv"
    path.write_text("patient_id,grade,age\n2,G4,61\n3,G2,50\n")
    added = prediction.add_clinical(table, path)
    assert added["patient_id"].tolist() == ["1", "2"]
    assert added["grade"].isna().tolist() == [True, False]
    assert added["age"][1] == "61"
    for content, message in (
        ("id,age\n1,2\n", "no column patient_id. Found id, age"),
        ("patient_id,age\n1,2\n1,3\n", "patient 1 is there twice"),
        ("patient_id,path\n1,x\n", "column path is in the list of slides, too"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            prediction.add_clinical(table, path)


def test_a_registered_student_reads_clinical_inputs_where_they_are_known(
    client: MlflowClient, params: Callable[..., Params], tmp_path: Path
) -> None:
    for slide in ("P1", "P2", "P3"):
        for mpp in (0.5, 1.0):
            tokens, coords = np.ones((4, WIDTH), np.float16), np.full((4, 2), 128 * mpp, np.float32)
            meta = {"encoder": ENCODER, "width": WIDTH, "weights": "w", "slide_id": slide, "patient_id": slide}
            meta |= {"fingerprint": "", "mpp": mpp, "tile_um": 256 * mpp}
            write_bag(tmp_path / f"features/{mpp:g}/{slide}.parquet", tokens, coords, meta)
    write_folds(Path("models/demo/survival/student"), "student", clinical=("age", "grade"))
    write_json(Path("reports/demo/survival/metrics.json"), {"student": {"c_index": {"value": 0.7}}})
    version = register(params(), "survival", "student")
    assert "Optional, each may be empty: `age` (number), `grade` (G2, G3, G4)." in version.description
    reference = f"{version.name}@challenger"
    (tmp_path / "clinical.csv").write_text("patient_id,grade,age\nP1,G4,80\nP2,G2,\n")
    known = prediction.predict(reference, tmp_path / "features", clinical=tmp_path / "clinical.csv")
    unknown = prediction.predict(reference, tmp_path / "features")
    assert known["reason"].tolist() == ["", "predicted without age", "predicted without age, grade"]
    assert unknown["risk"].nunique() == 1, "the slides are the same"
    assert known["risk"].round(6).nunique() == 3
    assert known["risk"][2] == pytest.approx(unknown["risk"][2], abs=1e-5)
    rows = pd.DataFrame({"patient_id": ["P1"], "path": ["features/0.5/P1.parquet"], "age": [80.0], "grade": ["G4"]})
    served = load(version.name, "challenger").predict(rows)
    assert served["risk"][0] == pytest.approx(known["risk"][0], abs=1e-5)
