import pandas as pd
import pyarrow as pa
import pytest

from dml.core.errors import InputError
from dml.core.files import write_parquet
from dml.report.patient_flow import ExternalFlow, count_flow


@pytest.fixture
def stores(tmp_path):
    tables = {
        "patients": {
            "site": ["S"] * 6,
            "patient_id": list("abcdef"),
            "survival_days": [10.0, 20, 30, 40, 50, None],
            "event": [True, False, True, True, None, None],
            "grade": ["G2", "G3", None, "G2", "G4", "G4"],
        },
        "slides": {"slide_id": list("abcde"), "patient_id": list("abcde"), "path": [None] * 5, "mpp": [None] * 5},
        "expression": {"patient_id": list("abcf")},
        "splits": {
            "patient_id": list("abc") * 2 + list("de") * 2,
            "fold": [0, 0, 0, 1, 1, 1, 0, 0, 1, 1],
            "role": ["test", "train", "validation", "train", "test", "train", *["train"] * 4],
            "inner_fold": [-1] * 10,
            "stratum": [""] * 10,
        },
    }
    for name, table in tables.items():
        write_parquet(tmp_path / f"{name}.parquet", pa.Table.from_pandas(pd.DataFrame(table)))
    return tmp_path


def test_patients_are_counted_down_to_the_tested(stores):
    flow = count_flow(stores, "survival")
    assert (flow.patients, flow.with_slide, flow.with_expression, flow.with_both) == (6, 5, 4, 3)
    assert (flow.with_outcome, flow.tested) == (4, 2)
    assert flow.folds == ({"train": 2, "validation": 1, "test": 1}, {"train": 3, "validation": 0, "test": 1})


def test_another_task_has_other_known_outcomes(stores):
    flow = count_flow(stores, "grade")
    assert flow.folds[0] == {"train": 3, "validation": 0, "test": 1}


def test_slides_that_failed_do_not_count(stores):
    manifest = pd.DataFrame({"patient_id": ["a", "b", "b"], "status": ["ok", "failed", "failed"]})
    write_parquet(stores / "features" / "manifest.parquet", pa.Table.from_pandas(manifest))
    assert count_flow(stores, "survival").with_slide == 1


def test_a_missing_store_is_named(tmp_path):
    with pytest.raises(InputError, match=r"patients\.parquet"):
        count_flow(tmp_path, "survival")


def test_patients_used_in_development_are_excluded_from_external_evaluation():
    steps = ExternalFlow(100, 90, 60, 50, 80, 77, ()).steps()
    assert [(step.count, step.excluded) for step in steps] == [(100, None), (90, 10), (80, 10), (77, 3)]
    assert steps[-1].reason == "used in model development"
