"""Patients are gathered from any tables; order of rows and columns does not matter, and nothing is guessed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dml.cohorts.description import CohortDescription
from dml.cohorts.patients import build_patients, write_patients
from dml.cohorts.store_files import read_patients
from dml.core.errors import InputError
from dml.data.cohort_store import CohortStore
from dml.readers.columns import PatientTable


def described(raw: Path, tables: dict[str, pd.DataFrame], **changes: object) -> CohortDescription:
    """One patient table after the other; each has id, days, dead."""
    raw.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        frame.to_csv(raw / f"{name}.csv", index=False)
    survival = {"time": "days", "unit": "days", "event": "dead", "dead": "1", "alive": "0", "unknown": "?"}
    specs = [{"file": f"{name}.csv", "id": "id", "survival": survival, **changes} for name in tables]
    return CohortDescription.model_validate({"name": "x", "raw": raw, "patients": specs})


def frame(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["id", "days", "dead"], dtype=object)


def test_a_whole_cohort(describe, tables) -> None:
    patients = build_patients(describe(tables)).set_index("patient_id")
    raw = tables["patients"].set_index("patient")
    assert patients.index.tolist() == sorted(raw.index)
    np.testing.assert_allclose(patients["survival_days"], raw["months"] * 30.4375)
    assert patients["event"].tolist() == [bool(d) for d in raw["dead"]]
    assert patients["sex"].tolist() == [1.0 if s == "F" else 0.0 for s in raw["sex"]]
    assert patients["site"].tolist() == raw["hospital"].tolist()
    assert patients["age"].tolist() == raw["age"].tolist()
    assert patients["grade"].tolist() == raw["grade"].tolist()
    assert set(patients["survival_source"]) == {"patients"}


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_rows_and_columns_does_not_matter(tmp_path_factory, random) -> None:
    rows = [("A", 10, 1), ("B", 20, 0), ("C", 5.5, 1), ("A", 10, 1), ("D", None, None)]
    raw = tmp_path_factory.mktemp("raw")
    expected = build_patients(described(raw / "a", {"t": frame(rows)}))
    random.shuffle(rows)
    columns = ["id", "days", "dead"]
    random.shuffle(columns)
    shuffled = build_patients(described(raw / "b", {"t": frame(rows)[columns]}))
    pd.testing.assert_frame_equal(shuffled, expected)


def test_survival_is_taken_as_a_whole_from_the_first_table_that_has_it(tmp_path: Path) -> None:
    first = frame([("A", 10, 1), ("B", None, None), ("C", 30, None)])
    second = frame([("A", 99, 0), ("B", 20, 0), ("C", 31, 1), ("D", 5, None)])
    patients = build_patients(described(tmp_path, {"first": first, "second": second})).set_index("patient_id")
    assert patients["survival_days"].tolist() == [10, 20, 31, 5]
    assert patients["event"].tolist()[:3] == [True, False, True]
    assert pd.isna(patients["event"]["D"])
    assert patients["survival_source"].tolist() == ["first", "second", "second", "second"]


def test_of_several_time_columns_the_first_filled_one_counts(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["A", "B"], "death": [12, None], "last": [3, 40], "dead": [1, 0]})
    table.to_csv(tmp_path / "t.csv", index=False)
    survival = {"time": ["death", "last"], "unit": "days", "event": "dead", "dead": 1, "alive": 0}
    spec = PatientTable.model_validate({"file": "t.csv", "id": "id", "survival": survival})
    patients = build_patients(CohortDescription(name="x", raw=tmp_path, patients=(spec,)))
    assert patients["survival_days"].tolist() == [12, 40]


@pytest.mark.parametrize(("unit", "days"), [("days", 24), ("months", 24 * 30.4375), ("years", 24 * 365.25)])
def test_units_of_time(tmp_path: Path, unit: str, days: float) -> None:
    survival = {"time": "days", "unit": unit, "event": "dead", "dead": 1, "alive": 0, "confirmed": True}
    description = described(tmp_path, {"t": frame([("A", 24, 1)])}, survival=survival)
    assert build_patients(description)["survival_days"].tolist() == [days]


@pytest.mark.parametrize(
    ("unit", "cell"), [("years", 50), ("months", 600), ("days", 18262.5), ("minus_days", -18262.5)]
)
def test_units_of_age(tmp_path: Path, unit: str, cell: float) -> None:
    table = frame([("A", 24, 1)]).assign(age=cell)
    description = described(tmp_path, {"t": table}, age={"column": "age", "unit": unit})
    assert build_patients(description)["age"].tolist() == [50]


def test_a_censorship_column_is_an_event_column_the_other_way_round(tmp_path: Path) -> None:
    survival = {"time": "days", "unit": "days", "event": "censorship", "dead": 0, "alive": 1}
    table = frame([("A", 1, "1.0"), ("B", 1, "0.0")]).rename(columns={"dead": "censorship"})
    description = described(tmp_path, {"t": table}, survival=survival)
    assert build_patients(description)["event"].tolist() == [False, True]


def test_a_listed_unknown_is_null_and_an_unlisted_value_fails(tmp_path: Path) -> None:
    patients = build_patients(described(tmp_path, {"t": frame([("A", 1, "?"), ("B", 1, 1)])}))
    assert pd.isna(patients["event"][0])
    bad = described(tmp_path, {"t": frame([("A", 1, 2), ("B", 1, 1), ("C", 1, 2)])})
    with pytest.raises(InputError, match=r"t\.csv: column 'dead' holds 2 in rows 2, 4, .*List it under survival\.dead"):
        build_patients(bad)


def test_rows_of_one_patient_that_disagree_are_named(tmp_path: Path) -> None:
    bad = described(tmp_path, {"t": frame([("A", 1, 1), ("B", 2, 0), ("A", 9, 1)])})
    with pytest.raises(InputError, match=r"disagree in 'days': A \(rows 2, 4\)\. Each patient has one value"):
        build_patients(bad)


def test_a_word_in_the_time_column_is_named(tmp_path: Path) -> None:
    bad = described(tmp_path, {"t": frame([("A", "long", 1)])})
    with pytest.raises(InputError, match=r"column 'days' holds long in row 2, which is not a number"):
        build_patients(bad)


def test_excluded_patients_are_left_out(describe, tables) -> None:
    patients = build_patients(describe(tables, exclude={"P03": "withdrew consent"}))
    assert "P03" not in set(patients["patient_id"])
    assert len(patients) == len(tables["patients"]) - 1


def test_labels_come_from_the_first_source_that_knows_and_conflicts_are_told(tmp_path: Path, caplog) -> None:
    description = described(
        tmp_path,
        {
            "a": frame([("A", 1, 1), ("B", 1, 1)]).assign(g=["lo", None]),
            "b": frame([("A", 1, 1), ("B", 1, 1)]).assign(g=["H", "L"]),
        },
    )
    sources = [
        {"table": "a", "column": "g", "values": {"lo": "low", "hi": "high"}},
        {"table": "b", "column": "g", "values": {"L": "low", "H": "high"}},
    ]
    labels = {"g": {"classes": ["low", "high"], "sources": sources}}
    both = CohortDescription.model_validate({**description.model_dump(by_alias=True), "labels": labels})
    assert build_patients(both)["g"].tolist() == ["low", "low"]
    assert "label g: two sources disagree on A; the earlier one counts" in caplog.text


def test_written_and_read_back_alike(describe, tables, tmp_path: Path) -> None:
    tables["patients"].loc[[0, 1], ["months", "dead", "grade"]] = None
    tables["patients"].loc[2, "dead"] = None
    patients = build_patients(describe(tables))
    write_patients(tmp_path / "p.parquet", patients, {"grade": ("low", "high")}, "plain")
    back = read_patients(tmp_path / "p.parquet")
    assert back.attrs == {"classes": {"grade": ["low", "high"]}, "cohort": "plain"}
    assert [None if pd.isna(e) else e for e in back["event"]] == [None if pd.isna(e) else e for e in patients["event"]]
    for name in ["survival_days", "age", "sex"]:
        np.testing.assert_array_equal(back[name], patients[name])
    assert back["grade"].isna().tolist() == patients["grade"].isna().tolist()
    first = (tmp_path / "p.parquet").read_bytes()
    write_patients(tmp_path / "p.parquet", patients, {"grade": ("low", "high")}, "plain")
    assert (tmp_path / "p.parquet").read_bytes() == first


def test_rows_of_other_diagnoses_are_not_read(describe, tables) -> None:
    relapse = tables["patients"].assign(months=99.0, kind="recurrence")
    tables["patients"] = pd.concat([tables["patients"].assign(kind="primary"), relapse], ignore_index=True)
    with pytest.raises(InputError, match="rows of the same patient disagree in 'months'"):
        build_patients(describe(tables))

    def reading(kind: str) -> CohortDescription:
        description = describe(tables)
        table = description.patients[0].model_copy(update={"where": {"kind": (kind,)}})
        return description.model_copy(update={"patients": (table,)})

    assert build_patients(reading("primary"))["survival_days"].max() < 99 * 30
    with pytest.raises(InputError, match=r"no row is left by where: \{'kind': \('x',\)\}\. Correct patients\.where"):
        build_patients(reading("x"))


def numbered(raw: Path, cells: list[object], **label: object) -> CohortDescription:
    """One table with a column of numbers, declared as a label."""
    rows = frame([(f"P{i}", 1, 1) for i in range(len(cells))]).assign(tils=cells)
    description = described(raw, {"t": rows}).model_dump(by_alias=True)
    source = {"table": "t", "column": "tils", "unknown": ["NA", "n/d"]}
    labels = {"tils": {"kind": "number", "sources": [source], **label}}
    return CohortDescription.model_validate({**description, "labels": labels})


def test_a_number_is_read_written_and_marked_by_having_no_classes(tmp_path: Path) -> None:
    description = numbered(tmp_path, ["0.5", "1e2", "", "n/d", "-3"], unit="%", range=(-10, 100))
    patients = build_patients(description)
    np.testing.assert_array_equal(patients["tils"], [0.5, 100, np.nan, np.nan, -3])
    classes = {name: label.classes for name, label in description.labels.items()}
    write_patients(tmp_path / "patients.parquet", patients, classes, "x")
    stored = read_patients(tmp_path / "patients.parquet")
    assert stored.attrs["classes"] == {"tils": []}
    assert stored["tils"].dtype == np.float64
    cohort = CohortStore(tmp_path).clinical_cohort()
    assert [case.values for case in cohort.cases] == [{"tils": 0.5}, {"tils": 100.0}, {}, {}, {"tils": -3.0}]
    assert all(case.labels == {} for case in cohort.cases)
    assert [case.has_target("tils") for case in cohort.cases] == [True, True, False, False, True]


def test_numbers_of_one_patient_must_agree(tmp_path: Path) -> None:
    rows = frame([("A", 1, 1), ("A", 1, 1)]).assign(n=[1.0, 2.0])
    description = described(tmp_path, {"t": rows}).model_dump(by_alias=True)
    labels = {"n": {"kind": "number", "sources": [{"table": "t", "column": "n"}]}}
    with pytest.raises(InputError, match="rows of the same patient disagree in 'n'"):
        build_patients(CohortDescription.model_validate({**description, "labels": labels}))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["0.5", "high"], r"t\.csv: column 'tils' holds high in row 3, which is not a number"),
        (["0.5", "inf"], r"column 'tils' holds inf in row 3, which is not a number"),
        (["0.5", "140"], r"column 'tils' holds 140\.0 in row 3\. The label's range is 0 to 100: correct the cells"),
        (["-1", "5"], r"holds -1\.0 in row 2\. The label's range is 0 to 100"),
    ],
)
def test_text_and_numbers_out_of_range_are_refused(tmp_path: Path, cells: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_patients(numbered(tmp_path, cells, range=(0, 100)))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"classes": ["low", "high"]}, "a number has neither `classes` nor `values`"),
        ({"range": (5, 5)}, "the lowest number comes first"),
        ({"kind": "class"}, "name at least two, or `kind: number`"),
        ({"kind": "class", "classes": ["low", "high"], "unit": "%"}, "`unit` and `range` are of numbers"),
    ],
)
def test_a_label_that_is_half_a_number_is_refused(tmp_path: Path, label: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        numbered(tmp_path, ["1", "2"], **label)
