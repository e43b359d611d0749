"""Time goes by the event; rows of several visits, contradictions and misread columns have one answer each."""

from pathlib import Path

import pandas as pd
import pytest

from dml.cohorts.description import CohortDescription
from dml.cohorts.patients import build_patients
from dml.cohorts.provenance import Ledger
from dml.core.errors import ConfigError, InputError

GDC = {"unit": "days", "event": "status", "dead": ["Dead"], "alive": ["Alive"]}
BY_EVENT = {**GDC, "time": ["days_to_death", "days_to_last_follow_up"]}


def built(folder: Path, tables: dict[str, tuple[pd.DataFrame, dict]], ledger: Ledger | None = None) -> pd.DataFrame:
    for name, (frame, _) in tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    specs = [{"file": f"{name}.csv", "id": "id", "survival": survival} for name, (_, survival) in tables.items()]
    description = CohortDescription.model_validate({"name": "x", "raw": folder, "patients": specs})
    return build_patients(description, ledger).set_index("patient_id")


def clinical(*rows: tuple[str, str, float | None, float | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["id", "status", "days_to_death", "days_to_last_follow_up"])


def test_the_day_of_death_is_for_the_dead_alone(tmp_path: Path) -> None:
    ledger = Ledger()
    table = clinical(
        ("A", "Alive", 300, 1200), ("B", "Dead", 151, None), ("C", "Dead", None, 541), ("D", "Dead", 10, 900),
        ("E", "Alive", None, 0), ("F", "Alive", None, 77),
    )  # fmt: skip
    patients = built(tmp_path, {"t": (table, BY_EVENT)}, ledger)
    assert patients["survival_days"].dropna().to_dict() == {"A": 1200, "B": 151, "D": 10, "E": 0, "F": 77}
    assert patients["event"].dropna().to_dict() == {"A": False, "B": True, "D": True, "E": False, "F": False}
    contradictions = {r.patient_id: r.rule for r in ledger.records if r.status == "contradiction"}
    assert contradictions == {
        "A": "alive with a day of death (300): the last follow-up counts",
        "C": "dead without a day of death (last follow-up: day 541)",
        "D": "followed until day 900, after the day of death (10), which counts",
    }


def test_columns_may_be_given_by_event(tmp_path: Path) -> None:
    table = clinical(("A", "Alive", None, 5), ("B", "Dead", 7, 9)).set_axis(["id", "status", "x", "y"], axis=1)
    patients = built(tmp_path, {"t": (table, {**GDC, "time": {"dead": "x", "alive": "y"}})})
    assert patients["survival_days"].tolist() == [5, 7]


VISITS = pd.DataFrame({"id": ["A", "A", "A", "B", "B"], "days_to_follow_up": [766, 2556, 1533, 10, 30]})


def test_of_several_visits_the_latest_counts(tmp_path: Path) -> None:
    visits = VISITS.assign(status=["Alive"] * 4 + ["Dead"])
    ledger = Ledger()
    patients = built(tmp_path, {"visits": (visits, {**GDC, "time": "days_to_follow_up"})}, ledger)
    assert patients["survival_days"].to_dict() == {"A": 2556, "B": 30}
    assert patients["event"].to_dict() == {"A": False, "B": True}
    assert {r.patient_id: (r.rule, r.row) for r in ledger.records if r.item == "survival"}["A"] == (
        "latest of 3 rows",
        3,
    )


def test_follow_up_without_a_status_belongs_to_the_alive_of_the_clinical_table(tmp_path: Path) -> None:
    """As the GDC portal hands it out since 2025: vital status here, visits there."""
    table = clinical(("A", "Alive", None, None), ("B", "Dead", 5, None), ("C", "Alive", None, None))
    visits = {"unit": "days", "time": "days_to_follow_up"}
    patients = built(tmp_path, {"clinical": (table, BY_EVENT), "visits": (VISITS, visits)})
    assert patients["survival_days"].dropna().to_dict() == {"A": 2556, "B": 5}
    assert patients["event"].to_dict() == {"A": False, "B": True, "C": False}


def test_other_tables_must_agree_unless_told(tmp_path: Path) -> None:
    table = VISITS.assign(status="Alive").rename(columns={"days_to_follow_up": "days"})
    with pytest.raises(InputError, match=r"disagree in 'days': A \(rows 2, 3, 4\).*survival\.rows: latest"):
        built(tmp_path, {"t": (table, {**GDC, "time": "days"})})
    assert built(tmp_path, {"t": (table, {**GDC, "time": "days", "rows": "latest"})})["survival_days"]["A"] == 2556


@pytest.mark.parametrize(
    ("column", "unit", "readings"),
    [
        ("OS_MONTHS", "days", "in days 0.2 years or in months 7.0 years"),
        ("os_days", "months", "in months 7.0 years or in days 0.2 years"),
        ("follow_up_years", "days", "in days 0.2 years or in years 84.0 years"),
    ],
)
def test_a_unit_that_the_columns_name_contradicts(tmp_path: Path, column: str, unit: str, readings: str) -> None:
    table = pd.DataFrame({"id": ["A", "B"], column: [84, 12], "status": ["Dead", "Alive"]})
    survival = {**GDC, "time": column, "unit": unit}
    with pytest.raises(InputError, match=rf"column '{column}' is declared in {unit}.*{readings}.*confirmed: true"):
        built(tmp_path, {"t": (table, survival)})
    assert built(tmp_path, {"t": (table, {**survival, "confirmed": True})})["event"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("column", "dead", "alive"), [("censorship", 1, 0), ("is_censored", "true", "false"), ("OS_event", 0, 1)]
)
def test_a_coding_that_the_columns_name_contradicts(tmp_path: Path, column: str, dead: object, alive: object) -> None:
    table = pd.DataFrame({"id": ["A", "B"], "time": [84, 12], column: [str(dead), str(alive)]})
    survival = {"time": "time", "unit": "days", "event": column, "dead": [dead], "alive": [alive]}
    with pytest.raises(InputError, match=rf"'{column}' is read as: .* died, .* alive; by its name"):
        built(tmp_path, {"t": (table, survival)})
    assert built(tmp_path, {"t": (table, {**survival, "confirmed": True})})["event"].tolist() == [True, False]


def test_an_event_column_needs_its_coding(tmp_path: Path) -> None:
    from dml.config.params import parse

    content = {"name": "x", "patients": [{"file": "t", "id": "id", "survival": {**GDC, "time": "t", "alive": []}}]}
    with pytest.raises(ConfigError, match="must list the values of the event column"):
        parse(CohortDescription, content, "x.yaml")


@pytest.mark.parametrize("column", ["alive", "is_alive", "survived", "vital_alive", "living"])
def test_a_column_of_the_living_is_not_read_as_one_of_deaths(tmp_path: Path, column: str) -> None:
    table = pd.DataFrame({"id": ["A", "B"], column: [1, 0], "days": [500, 60]})
    spec = {"time": "days", "unit": "days", "event": column, "dead": [1], "alive": [0]}
    with pytest.raises(InputError, match=rf"column '{column}' is read as: 1 died, 0 alive; by its name 1 means alive"):
        built(tmp_path, {"t": (table, spec)})
    right = {**spec, "dead": [0], "alive": [1]}
    assert built(tmp_path, {"t": (table, right)})["event"].to_dict() == {"A": False, "B": True}


@pytest.mark.parametrize("column", ["DFS_STATUS", "pfs_event", "relapse", "PFI"])
def test_another_endpoint_than_death_needs_a_word(tmp_path: Path, column: str) -> None:
    table = pd.DataFrame({"id": ["A", "B"], column: [1, 0], "days": [500, 60]})
    spec = {"time": "days", "unit": "days", "event": column, "dead": [1], "alive": [0]}
    with pytest.raises(InputError, match="another endpoint than death"):
        built(tmp_path, {"t": (table, spec)})
    assert len(built(tmp_path, {"t": (table, {**spec, "confirmed": True})})) == 2


@pytest.mark.parametrize(
    ("times", "unit", "says"),
    [
        ([1998, 2004, 2019], "days", "calendar years"),
        ([41000, 42500, 39800], "days", "dates of a spreadsheet or ages in days"),
        ([900, 1200, 700], "years", "is it another unit"),
        ([400, 1200, 1e9], "days", r"the longest \(1e\+09\) is no follow-up"),
    ],
)
def test_times_that_are_no_follow_up(tmp_path: Path, times: list[float], unit: str, says: str) -> None:
    table = pd.DataFrame({"id": list("ABC"), "dead": [1, 0, 1], "time": times})
    spec = {"time": "time", "unit": unit, "event": "dead", "dead": [1], "alive": [0]}
    with pytest.raises(InputError, match=says):
        built(tmp_path, {"t": (table, spec)})


def test_weeks(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["A"], "dead": [1], "os_weeks": [10]})
    spec = {"time": "os_weeks", "event": "dead", "dead": [1], "alive": [0]}
    assert built(tmp_path, {"t": (table, {**spec, "unit": "weeks"})})["survival_days"].to_dict() == {"A": 70}
    with pytest.raises(InputError, match=r"survival\.unit: weeks"):
        built(tmp_path, {"t": (table, {**spec, "unit": "days"})})
