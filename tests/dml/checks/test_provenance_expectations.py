"""The page of the checks states how ids match, what contradicts follow-up and which sample counted."""

from pathlib import Path

import pandas as pd
import pytest

from dml.checks.run import check_cohort
from dml.cohorts.description import CohortDescription
from dml.cohorts.stores import build_cohort, write_cohort
from dml.config.params import Checks
from dml.core.errors import CheckFailed
from dml.readers.columns import TimeColumns


def check(description: CohortDescription, folder: Path, config: Checks | None = None) -> str:
    write_cohort(folder / "data", description, build_cohort(description))
    try:
        check_cohort(folder / "data", description, config or Checks(), folder / "out", ["survival"])
    finally:
        summary = (folder / "out/cohort/summary.txt").read_text()
    return summary


def test_a_matrix_that_matches_nobody_fails(describe, tables, tmp_path: Path) -> None:
    tables["expression"]["patient"] = tables["expression"]["patient"].str.lower()
    with pytest.raises(CheckFailed, match=r"matched 0 of 22 and 24, unmatched p00, .* case is ignored: p00 is P00"):
        check(describe(tables), tmp_path)


def test_a_few_in_another_spelling_fail_too(describe, tables, tmp_path: Path) -> None:
    tables["slides"].loc[:2, "patient"] = ["P00 ", "P01", "P02"]
    tables["expression"].loc[[3, 4], "patient"] = ["P03.0", "P04.0"]
    with pytest.raises(CheckFailed, match=r"another spelling: failed for ids expression to patients, matched 20 of 22"):
        check(describe(tables), tmp_path)


def test_a_share_that_matches_is_stated_and_can_be_demanded(describe, tables, tmp_path: Path) -> None:
    tables["expression"].loc[:5, "patient"] = [f"X{i}" for i in range(6)]
    summary = check(describe(tables), tmp_path, Checks(min_patients=10))
    assert "ids, expression to patients         16 of 22 and 24 match" in summary
    assert "samples left out                    6 x in no table of patients" in summary
    with pytest.raises(CheckFailed, match=r"at least 90% of the ids of two tables match \(checks\.min_matched\)"):
        check(describe(tables), tmp_path, Checks(min_patients=10, min_matched=0.9))


def test_contradictions_of_follow_up_are_listed(describe, tables, tmp_path: Path) -> None:
    patients = tables["patients"]
    patients["last"] = patients["months"].where(patients["dead"] == 0)
    patients["death"] = patients["months"].where(patients["dead"] == 1)
    patients.loc[0, "death"], patients.loc[2, "last"] = 3, 0
    description = describe(tables)
    time = TimeColumns(dead=("death",), alive=("last",))
    survival = description.patients[0].survival.model_copy(update={"time": time})
    table = description.patients[0].model_copy(update={"survival": survival})
    summary = check(description.model_copy(update={"patients": (table,)}), tmp_path)
    assert "alive with a day of death (91.3125): the last" in summary
    assert "no follow-up of day 0 [patients.later_than_day_0]\n             patient_id P02" in summary


def test_a_cohort_followed_for_weeks_is_warned_of(describe, tables, tmp_path: Path) -> None:
    tables["patients"]["months"] /= 30
    assert "somebody was followed for a year [follow_up.longest_days]" in check(describe(tables), tmp_path)


def test_every_patient_with_several_samples_is_listed(describe, tables, tmp_path: Path) -> None:
    again = tables["expression"].iloc[[0]].assign(patient="P00-b")
    tables["expression"] = pd.concat([tables["expression"], again])
    expression = {"file": "expression.csv", "orientation": "patients_as_rows", "unit": "log2_tpm", "repeats": "first"}
    key = {"column": "patient", "pattern": "^(P..)"}
    summary = check(describe(tables, expression={**expression, "id": key}), tmp_path)
    assert "patient_id P00, taken P00, left_out P00-b, rule first of 2 equal samples by name" in summary
