"""What the stores hold, and which feature files are not what they should be."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dml.cli import inventory
from dml.core.errors import InputError
from dml.core.files import write_parquet
from dml.data.feature_store import bag_path, write_bag


@pytest.fixture
def features(tmp_path: Path) -> Path:
    for mpp in (0.5, 1.0):
        for slide in ("s1", "s2"):
            meta = {"encoder": "tiny", "mpp": mpp, "tile_um": 256 * mpp, "slide_id": slide, "patient_id": "p"}
            write_bag(bag_path(tmp_path, "tiny", mpp, slide), np.ones((3, 4), np.float16), None, meta)
    return tmp_path


def test_sets_and_slides_are_listed(features: Path) -> None:
    rows = inventory.feature_sets(features)
    assert [(row["encoder"], row["mpp"], row["slides"], row["tiles"]) for row in rows] == [
        ("tiny", "0.5", 2, 6),
        ("tiny", "1", 2, 6),
    ]
    assert [row["mpp"] for row in inventory.slide_features(features, "s1")] == [0.5, 1.0]
    with pytest.raises(InputError, match="no features of slide s9"):
        inventory.slide_features(features, "s9")
    with pytest.raises(InputError, match="no features"):
        inventory.feature_sets(features / "absent")


def test_some_slides_can_be_chosen(features: Path) -> None:
    assert len(inventory.chosen_files(features, None)) == 4
    assert {file.stem for file in inventory.chosen_files(features, ["s2"])} == {"s2"}
    with pytest.raises(InputError, match=r"no features of s8\. Known slides"):
        inventory.chosen_files(features, ["s1", "s8"])


def test_damaged_and_misplaced_files_are_found(features: Path) -> None:
    files = inventory.feature_files(features)
    assert [inventory.problem(file) for file in files] == [""] * 4
    files[0].write_bytes(files[0].read_bytes()[:-40])
    files[1].rename(files[1].with_name("s3.parquet"))
    found = {file.name: inventory.problem(file) for file in inventory.feature_files(features / ".")}
    assert "not a readable Parquet file" in inventory.problem(files[0])
    assert "tiny/0.5/s2" in found["s3.parquet"]


def test_a_cohort_is_counted_by_what_is_known(tmp_path: Path) -> None:
    patients = pa.table(
        {
            "patient_id": ["a", "b", "c"],
            "site": ["x", "x", "y"],
            "survival_days": [10.0, None, 30.0],
            "event": pa.array([True, None, False]),
            "age": [50.0, None, None],
            "grade": ["G2", None, "G4"],
            "purity": [0.5, None, 0.25],
        }
    )
    classes = {"grade": ["G2", "G3", "G4"], "purity": []}
    write_parquet(tmp_path / "patients.parquet", patients, {"classes": classes})
    found = {row["what"]: row["number"] for row in inventory.summary(tmp_path)}
    assert (found["patients"], found["sites"], found["with survival"], found["deaths"]) == (3, 2, 2, 1)
    # the one who died at 10 days was followed until then; the other until 30
    assert found["median follow-up in days (reverse Kaplan-Meier)"] == 30
    assert (found["grade = G2"], found["grade = G3"], found["grade = G4"]) == (1, 0, 1)
    assert found["with purity"] == 2
    assert found["slides"] is None
