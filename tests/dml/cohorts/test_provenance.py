"""The ledger of a cohort: every value has its file, row and rule, and what is not used has a reason."""

from pathlib import Path

import pandas as pd
import pytest

from dml.cohorts.provenance import Ledger, Record, explain_patient, read_provenance, write_provenance
from dml.cohorts.stores import build_cohort, read_cohort_tables, write_cohort
from dml.core.errors import InputError


def test_every_value_of_a_patient_has_its_origin(describe, tables, tmp_path: Path) -> None:
    tables["expression"].loc[3, "patient"] = "X9"
    description = describe(tables, exclude={"P01": "withdrew consent", "P05-S1": "out of focus"})
    write_cohort(tmp_path / "data", description, build_cohort(description))
    path = tmp_path / "data/provenance.parquet"
    rows = explain_patient(path, "P00").set_index("item")
    raw = tables["patients"].iloc[0]
    assert rows.loc["survival", ["file", "source", "row"]].tolist() == ["patients.csv", "months, dead", 2]
    assert rows.loc["survival", "value"] == f"alive, day {raw['months'] * 30.4375:g}"
    assert rows.loc["grade", ["value", "source", "row"]].tolist() == [raw["grade"], "grade", 2]
    assert rows.loc["slide", "value"].tolist() == ["P00-S1", "P00-S2"]
    expression = ["expression.csv", "P00", 2, "only sample"]
    assert rows.loc["expression", ["file", "source", "row", "rule"]].tolist() == expression
    assert set(rows["status"]) == {"used"}
    left_out = {
        (r.patient_id, r.item, r.source, r.rule)
        for r in read_provenance(path).records
        if r.status == "left out"
    }  # fmt: skip
    assert left_out == {
        ("P01", "patient", "", "exclude: withdrew consent"),
        ("P01", "slide", "P01-S1", "exclude: withdrew consent"),
        ("P01", "expression", "P01", "listed under exclude"),
        ("P05", "slide", "P05-S1", "exclude: out of focus"),
        ("X9", "expression", "X9", "in no table of patients"),
    }


def test_joins_are_stored_and_a_strange_id_is_explained(describe, tables, tmp_path: Path) -> None:
    description = describe(tables)
    write_cohort(tmp_path / "data", description, build_cohort(description))
    joins = {join.name: join for join in read_cohort_tables(tmp_path / "data").ledger.joins}
    assert (joins["expression to patients"].matched, joins["expression to patients"].right) == (22, 24)
    assert joins["slides to patients"].only_left == ()
    with pytest.raises(
        InputError, match=r"no patient 'p00'; there are P00, .* 1 more match if case is ignored: p00 is P00"
    ):
        explain_patient(tmp_path / "data/provenance.parquet", "p00")


def test_written_and_read_back(tmp_path: Path) -> None:
    ledger = Ledger(
        [Record("P", "age", "used", "50", "t.csv", "age", 7, "only source"), Record("", "slide", "left out")]
    )
    ledger.match("a to b", ["1"], ["2"])
    write_provenance(tmp_path / "p.parquet", ledger)
    back = read_provenance(tmp_path / "p.parquet")
    assert back.records == ledger.records
    assert back.joins == ledger.joins
    pd.testing.assert_frame_equal(back.frame(), ledger.frame())
