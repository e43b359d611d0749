"""Each row of DESIGN.md's "Bad input" that concerns tables and genes: the check fails, names who, says what to do."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dml.checks.run import check_cohort, check_disjoint
from dml.cohorts.patients import write_patients
from dml.cohorts.slide_table import write_slides
from dml.cohorts.store_files import ExpressionMatrix, read_expression, read_patients, read_slides, write_expression
from dml.config.params import Checks
from dml.core.errors import CheckFailed, ConfigError
from dml.core.files import read_json, write_json, write_parquet

Break = Callable[[Path], None]


def check(built, folder: Path, tasks: tuple[str, ...] = ("survival", "grade")) -> dict:
    check_cohort(folder / "data", built, Checks(), folder / "out", tasks)
    report: dict = read_json(folder / "out" / "cohort.json")
    return report


def on_patients(change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Break:
    def broken(data: Path) -> None:
        patients = read_patients(data / "patients.parquet")
        changed = change(patients)
        write_patients(
            data / "patients.parquet", patients if changed is None else changed, {"grade": ["low", "high"]}, "plain"
        )

    return broken


def on_slides(change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Break:
    def broken(data: Path) -> None:
        slides = read_slides(data / "slides.parquet")
        changed = change(slides)
        write_slides(data / "slides.parquet", slides if changed is None else changed)

    return broken


def on_expression(change: Callable[[ExpressionMatrix], ExpressionMatrix]) -> Break:
    return lambda data: (
        write_expression(data / "e", change(read_expression(data / "expression.parquet")))
        or ((data / "e").replace(data / "expression.parquet") and None)
    )


def put(column: str, row: int, value: object) -> Callable[[pd.DataFrame], None]:
    def changed(frame: pd.DataFrame) -> None:
        frame.loc[row, column] = value

    return changed


def with_values(change: Callable[[np.ndarray], None]) -> Callable[[ExpressionMatrix], ExpressionMatrix]:
    def changed(m: ExpressionMatrix) -> ExpressionMatrix:
        values = m.values.copy()
        change(values)
        return ExpressionMatrix(m.patient_ids, m.genes, values, m.unit, m.source)

    return changed


def renamed(m: ExpressionMatrix) -> ExpressionMatrix:
    genes = tuple(f"ENSG{i}" if i % 2 else g for i, g in enumerate(m.genes))
    return ExpressionMatrix(m.patient_ids, genes, m.values, m.unit, m.source)


def without_expression(_: ExpressionMatrix) -> ExpressionMatrix:
    return ExpressionMatrix((), (), np.zeros((0, 0), np.float32), "absent", "")


CASES: dict[str, tuple[Break, str]] = {
    "repeated patient": (
        on_patients(lambda p: pd.concat([p, p.iloc[[3]]])),
        r"patients\.parquet: patient ids are not repeated: failed for patient_id P03; patient_id P03\. Correct the raw",
    ),
    "negative time": (
        on_patients(put("survival_days", 2, -4.0)),
        r"no negative time: failed for patient_id P02, survival_days -4\.0\. Correct the raw table, or .*`exclude`",
    ),
    "missing time": (
        on_patients(put("survival_days", 2, None)),
        r"time and event are known together: failed for patient_id P02, follow_up no time",
    ),
    "all censored": (
        on_patients(lambda p: p.assign(event=False)),
        r"enough patients for every task: failed for quantity deaths \(all censored: .*\), count 0, needed 5",
    ),
    "one class": (
        on_patients(lambda p: p.assign(grade="low")),
        r"quantity classes of grade that occur, count 1, needed 2; quantity grade = high, count 0, needed 5",
    ),
    "unknown class": (
        on_patients(put("grade", 1, "middle")),
        r"grade is one of its classes: failed for patient_id P01, grade middle",
    ),
    "few patients": (on_patients(lambda p: p.iloc[:12]), r"quantity patients, count 12, needed 20"),
    "age": (
        on_patients(put("age", 4, 400.0)),
        r"age is between 0 and 120 years: failed for patient_id P04, age 400\.0",
    ),
    "repeated slide": (
        on_slides(lambda s: pd.concat([s, s.iloc[[0]]])),
        r"slides\.parquet: slide ids are not repeated: failed for slide_id P00-S1",
    ),
    "unknown patient": (
        on_slides(put("patient_id", 5, "X99")),
        r"every slide belongs to a known patient: failed for slide_id P04-S1, patient_id X99\. Add the patient",
    ),
    "mpp": (on_slides(put("mpp", 1, 5000.0)), r"microns per pixel are plausible: failed for slide_id P00-S2"),
    "nan": (
        on_expression(with_values(lambda v: v.__setitem__((3, 3), np.nan))),
        r"expression\.parquet: no NaN or Inf in expression: failed for patient_id P03",
    ),
    "constant": (
        on_expression(with_values(lambda v: v.__setitem__(6, 0.0))),
        r"no patient has the same value in all genes: failed for patient_id P06",
    ),
    "coverage": (
        on_expression(renamed),
        r"at least 10 genes and 80% of each group are measured: failed for group tme, declared 15, measured 7,"
        r" coverage 0\.467,"
        r" absent G1[0-9].*Check expression\.gene \(symbols, not Ensembl ids\?\)",
    ),
}


def test_a_good_cohort_passes_and_is_documented(built, tmp_path: Path) -> None:
    report = check(built, tmp_path)
    assert report["success"]
    assert report["counts"]["patients with slide and expression"] == 22
    assert all(c["success"] for c in report["checks"])
    text = (tmp_path / "out/cohort/summary.txt").read_text()
    assert text.startswith("cohort checks passed: ")
    pages = list((tmp_path / "out/cohort/docs").rglob("*.html"))
    assert (tmp_path / "out/cohort/docs/index.html") in pages
    assert not any('src="http' in p.read_text() or 'stylesheet" href="http' in p.read_text() for p in pages)


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_fails_with_rows_and_remedy(built, tmp_path: Path, case: str) -> None:
    broken, message = CASES[case]
    broken(tmp_path / "data")
    stores = {path: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    with pytest.raises(CheckFailed, match=message) as error:
        check(built, tmp_path)
    assert error.value.exit_code == 3
    assert {path: path.read_bytes() for path in (tmp_path / "data").iterdir()} == stores
    report = read_json(tmp_path / "out" / "cohort.json")
    assert not report["success"]
    assert sum(not c["success"] for c in report["checks"] if c["severity"] == "error") >= 1
    assert (tmp_path / "out/cohort/summary.txt").read_text().startswith("cohort checks FAILED: ")


def test_the_severity_of_a_rule_can_be_set(built, tmp_path: Path, caplog) -> None:
    on_patients(put("age", 4, 400.0))(tmp_path / "data")

    def with_severity(severity: str, rule: str = "patients.age") -> None:
        config = Checks(severity={rule: severity})
        check_cohort(tmp_path / "data", built, config, tmp_path / "out", ("survival",))

    with_severity("warning")
    assert "age is between 0 and 120 years: failed for patient_id P04, age 400.0" in caplog.text
    summary = (tmp_path / "out/cohort/summary.txt").read_text()
    assert "age is between 0 and 120 years [patients.age]\n             patient_id P04, age 400.0\n" in summary
    with_severity("ignore")
    assert "age is between" not in (tmp_path / "out/cohort/summary.txt").read_text()
    with pytest.raises(CheckFailed, match="1 of 32 checks failed"):
        with_severity("error")
    with pytest.raises(ConfigError, match=r"no check 'patients\.agee'; there are patients\.id_present"):
        with_severity("ignore", "patients.agee")
    with pytest.raises(ConfigError, match=r"no table of checks for 'patient\.age'; there are patients, sizes"):
        with_severity("ignore", "patient.age")


def test_interpolated_slides_warn_and_fields_do_not_matter(built, tmp_path: Path, caplog) -> None:
    fields = [[[0, 0, 5, 5]]] * 25
    on_slides(lambda slides: slides.assign(upsample=True, fields_px=fields))(tmp_path / "data")
    check(built, tmp_path)
    assert "no tile may be finer than its image: failed for slide_id P00-S1" in caplog.text


def test_a_site_that_is_unlike_the_others_warns(built, tmp_path: Path) -> None:
    def shifted(m: ExpressionMatrix) -> ExpressionMatrix:
        values = m.values.copy()
        values[0::3] += 30  # hospital H0
        return ExpressionMatrix(m.patient_ids, m.genes, values, m.unit, m.source)

    on_expression(shifted)(tmp_path / "data")
    config = Checks(min_site_patients=5)
    check_cohort(tmp_path / "data", built, config, tmp_path / "out", ("survival",))
    report = read_json(tmp_path / "out/cohort.json")
    (rule,) = [c for c in report["checks"] if c["name"] == "genes_alike"]
    assert (rule["success"], rule["severity"]) == (False, "warning")
    assert rule["rows"][0]["site"] == "H0"
    assert rule["rows"][0]["genes"] == 1.0
    table = pd.read_csv(tmp_path / "out/cohort/drift.csv")
    assert set(table["site"]) == {"H0", "H1", "H2"}


def test_two_patients_with_one_transcriptome_fail(built, tmp_path: Path) -> None:
    on_expression(with_values(lambda v: v.__setitem__(5, v[2] * 1.0001)))(tmp_path / "data")
    with pytest.raises(CheckFailed, match=r"the same transcriptome: failed for patient_id P02, twin P05"):
        check(built, tmp_path)


def test_pages_show_no_invented_time(built, tmp_path: Path) -> None:
    check(built, tmp_path)
    pages = list((tmp_path / "out/cohort/docs").rglob("*.html"))
    assert pages
    for page in pages:
        text = re.sub(r'(?:href|src)="[^"]*"', "", page.read_text())
        assert not re.search(r"2000-?01-?01|Run Time|ge_load_time", text), page


def test_an_event_that_is_neither_seen_nor_censored_fails(built, tmp_path: Path) -> None:
    path = tmp_path / "data/patients.parquet"
    patients = read_patients(path)
    table = pa.Table.from_pandas(patients.assign(event=[2.0, *[0.0, 1.0] * 11, 0.0]), preserve_index=False)
    write_parquet(path, table.replace_schema_metadata(None), patients.attrs)
    with pytest.raises(CheckFailed, match=r"event is 0 or 1: failed for patient_id P00, event 2\.0"):
        check(built, tmp_path)


def test_too_few_of_a_label_that_is_no_task_only_warn(built, tmp_path: Path, caplog) -> None:
    on_patients(lambda p: p.assign(grade="low"))(tmp_path / "data")
    assert check(built, tmp_path, tasks=("survival",))["success"]
    assert "there are enough patients for the other labels: failed for" in caplog.text


def test_patients_with_nothing_to_learn_from_are_listed_as_a_warning(built, tmp_path: Path) -> None:
    on_slides(lambda s: s[s["patient_id"] != "P23"])(tmp_path / "data")
    report = check(built, tmp_path)
    (rule,) = [c for c in report["checks"] if c["check"] == "every patient has a slide or expression"]
    assert (rule["success"], rule["severity"], rule["failing"]) == (False, "warning", 1)
    assert rule["rows"][0]["patient_id"] == "P23"


def test_an_unknown_task_lists_those_there_are(built, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tasks: idh is no task of this cohort; there are survival, grade"):
        check(built, tmp_path, tasks=("idh",))


def test_a_panel_is_held_to_its_floor_not_to_coverage(built, tmp_path: Path) -> None:
    path = tmp_path / "data/gene_groups.json"
    groups = read_json(path)
    write_json(path, {**groups, "declared": {"tumor": 900, "tme": 900}, "restricted": True, "min_genes": 12})
    assert check(built, tmp_path)["success"]
    write_json(path, {**groups, "declared": {"tumor": 900, "tme": 900}, "restricted": True, "min_genes": 13})
    with pytest.raises(
        CheckFailed, match=r"at least 13 genes of each group.*group tumor, declared 900, measured 12.*min_genes"
    ):
        check(built, tmp_path)


def test_a_cohort_without_expression_is_not_asked_for_genes(built, tmp_path: Path) -> None:
    on_expression(without_expression)(tmp_path / "data")
    report = check(built, tmp_path)
    assert {c["file"] for c in report["checks"]} == {"patients.parquet", "provenance.parquet", "slides.parquet"}


def test_reports_of_equal_cohorts_are_equal_bytes(built, tmp_path: Path) -> None:
    contents = []
    for run in ("first", "second"):
        check_cohort(tmp_path / "data", built, Checks(), tmp_path / run, None)
        files = sorted(p for p in (tmp_path / run).rglob("*") if p.is_file())
        contents.append({str(p.relative_to(tmp_path / run)): p.read_bytes() for p in files})
    assert contents[0].keys() == contents[1].keys()
    differ = [name for name in contents[0] if contents[0][name] != contents[1][name]]
    assert differ == []
    json.loads(contents[0]["cohort.json"])


def test_a_patient_in_two_cohorts_fails(built, tmp_path: Path) -> None:
    other = tmp_path / "other"
    patients = read_patients(tmp_path / "data/patients.parquet").iloc[:3]
    write_patients(other / "patients.parquet", patients.assign(patient_id=["Q1", "P07", "Q2"]), {}, "other")
    with pytest.raises(CheckFailed, match=r"share 1 patients: P07\. List them under `exclude`"):
        check_disjoint(tmp_path / "data", other)
    write_patients(other / "patients.parquet", patients.assign(patient_id=["Q1", "Q3", "Q2"]), {}, "other")
    check_disjoint(tmp_path / "data", other)


def with_number(built, folder: Path, numbers: list[float | None]) -> None:
    """Check the cohort with a column of numbers as its task."""
    path = folder / "data" / "patients.parquet"
    patients = read_patients(path)
    patients["purity"] = numbers[: len(patients)]
    write_patients(path, patients, {"grade": ["low", "high"], "purity": []}, "plain")
    check(built, folder, ("purity",))


def test_numbers_that_vary_pass_and_missing_ones_are_not_known(built, tmp_path: Path) -> None:
    with_number(built, tmp_path, [None, None, *(0.1 * i for i in range(30))])
    assert read_patients(tmp_path / "data" / "patients.parquet")["purity"].isna().sum() == 2


def test_numbers_that_do_not_vary_fail(built, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"quantity different numbers of purity, count 1, needed 2"):
        with_number(built, tmp_path, [0.5] * 40)


def test_an_infinite_number_fails(built, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"purity is a finite number: failed for patient_id P03\."):
        with_number(built, tmp_path, [0.1, 0.2, 0.3, np.inf, *(0.1 * i for i in range(30))])


def test_too_few_patients_with_a_number_fail(built, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"quantity patients with a number for purity, count 12, needed 20"):
        with_number(built, tmp_path, [*(0.1 * i for i in range(12)), *([None] * 30)])
