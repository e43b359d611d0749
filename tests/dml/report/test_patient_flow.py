import pandas as pd
import pyarrow as pa
import pytest

from dml.core.errors import InputError
from dml.core.files import write_parquet
from dml.report.patient_flow import ExternalFlow, count_flow, count_left_out


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
    records = [
        ("x", "patient", "left out", "neither slide nor expression"),
        ("y", "patient", "left out", "neither slide nor expression"),
        ("z", "patient", "left out", "exclude: consent withdrawn"),
        ("a", "slide", "left out", "normal tissue"),
        ("a", "slide", "left out", "normal tissue"),
        ("", "slide", "left out", "in no table"),
        ("a", "survival", "used", "first table"),
    ]
    tables["provenance"] = dict(zip(("patient_id", "item", "status", "rule"), zip(*records, strict=True), strict=True))
    for name, table in tables.items():
        write_parquet(tmp_path / f"{name}.parquet", pa.Table.from_pandas(pd.DataFrame(table)))
    return tmp_path


def test_patients_are_counted_down_to_the_tested(stores):
    flow = count_flow(stores, "survival")
    assert (flow.patients, flow.with_slide, flow.with_expression, flow.with_both) == (6, 5, 4, 3)
    assert (flow.with_outcome, flow.tested) == (4, 2)
    assert flow.folds == ({"train": 2, "validation": 1, "test": 1}, {"train": 3, "validation": 0, "test": 1})


def test_the_flow_begins_with_what_the_ledger_says_was_left_out(stores):
    steps = count_flow(stores, "survival").steps()
    assert [(step.count, step.excluded) for step in steps[:3]] == [(9, None), (6, 3), (5, 1)]
    assert steps[1].reason == "left out: 1 exclude: consent withdrawn; 2 neither slide nor expression"
    rows = {(row.item, row.rule): (row.records, row.patients) for row in count_left_out(stores)}
    assert rows["slide", "normal tissue"] == (2, 1)
    assert rows["slide", "in no table"] == (1, 0)
    assert ("survival", "first table") not in rows


def test_without_a_ledger_the_flow_begins_with_the_cohort(stores):
    (stores / "provenance.parquet").unlink()
    assert count_flow(stores, "survival").steps()[0].text == "patients in the cohort"


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
