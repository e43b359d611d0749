"""Two stored cohorts become one: nobody is in both, genes are aligned by symbol, folds and labels are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dml.cohorts.description import CohortDescription
from dml.cohorts.gene_groups import write_gene_groups
from dml.cohorts.merge_cohorts import merge_cohorts, merge_splits
from dml.cohorts.patients import write_patients
from dml.cohorts.slide_table import write_slides
from dml.cohorts.splits import make_splits, write_splits
from dml.cohorts.store_files import DeclaredGroups, ExpressionMatrix, read_patients, write_expression
from dml.config.params import Split, parse
from dml.core.errors import ConfigError, InputError
from dml.core.types import GeneGroups

GENES = [f"G{i:02d}" for i in range(12)]
BOTH = {"name": "both", "combines": ["a", "b"]}


def described(**changes: Any) -> CohortDescription:
    description: CohortDescription = parse(CohortDescription, {**BOTH, **changes}, "cohorts/both.yaml")
    return description


def write_part(
    name: str,
    ids: list[str],
    genes: list[str] = GENES,
    unit: str = "log2_tpm",
    measured: int | None = None,
    classes: dict[str, list[str]] | None = None,
    folds: int = 2,
    **columns: Any,
) -> pd.DataFrame:
    """Write what `dml cohort import both` links for a part; return its expression, patients by genes."""
    folder = Path("data/raw/both") / name
    events = [i % 2 == 0 for i in range(len(ids))]
    patients = pd.DataFrame({"patient_id": ids, "site": "H1", "survival_days": 10.0, "event": events})
    patients = patients.assign(survival_source="t", age=50.0, sex=1.0, **columns)
    write_patients(folder / "patients.parquet", patients, classes or {}, name)
    slides = pd.DataFrame({"slide_id": [f"{p}-1" for p in ids], "patient_id": ids, "path": f"data/raw/{name}/x.tif"})
    write_slides(folder / "slides.parquet", slides.assign(mpp=np.nan))
    kept = ids[:measured]
    values = np.arange(len(kept) * len(genes), dtype=np.float32).reshape(len(kept), len(genes)) + len(name)
    matrix = ExpressionMatrix(tuple(kept), tuple(genes), values, unit if kept else "absent", name)
    write_expression(folder / "expression.parquet", matrix)
    write_gene_groups(
        folder / "gene_groups.json", DeclaredGroups(GeneGroups(tuple(genes[:6]), tuple(genes[6:]), "made"))
    )
    splits = make_splits(patients, set(kept or ids), folds, Split(), seed=len(ids))
    write_splits(folder / "splits.parquet", splits, {})
    return pd.DataFrame(values, index=kept, columns=genes)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def people(prefix: str, count: int = 8) -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def test_patients_slides_and_genes_of_both(caplog: pytest.LogCaptureFixture) -> None:
    first = write_part("a", people("P"), GENES[:10])
    second = write_part("b", people("A"), GENES[2:], measured=5)
    tables = merge_cohorts(described())
    patients = tables.patients.set_index("patient_id")
    assert list(patients.index) == sorted([*people("A"), *people("P")])
    assert patients["cohort"].to_dict() == {**dict.fromkeys(people("P"), "a"), **dict.fromkeys(people("A"), "b")}
    assert list(tables.slides["slide_id"]) == sorted(f"{p}-1" for p in patients.index)
    assert tables.slides["path"].isna().all()
    matrix = tables.expression
    assert matrix.patient_ids == tuple(sorted([*people("P"), *people("A", 5)]))
    assert matrix.genes == tuple(GENES[2:10])
    assert (matrix.unit, matrix.source) == ("log2_tpm", "a: a; b: b")
    expected = pd.concat([first, second])[GENES[2:10]].loc[list(matrix.patient_ids)]
    np.testing.assert_array_equal(matrix.values, expected.to_numpy())
    assert tables.groups.groups.tumor == tuple(GENES[2:6]), "G02 to G05 are tumor genes of both"
    assert tables.groups.groups.tme == tuple(GENES[8:10])
    assert "1 sites are in several cohorts and taken as the same hospital (H1)" in caplog.text


def test_the_tables_can_be_stored_and_read(tmp_path: Path) -> None:
    from dml.cohorts.stores import write_cohort

    write_part("a", people("P"), classes={"grade": ["G2", "G3", "G4"]}, grade=["G2", "G3", "G4", None] * 2)
    write_part("b", people("Q"), classes={"grade": ["G2", "G4"], "idh": ["wt", "mut"]}, grade="G4", idh="mut")
    write_cohort(tmp_path / "out", described(), merge_cohorts(described()))
    patients = read_patients(tmp_path / "out/patients.parquet")
    assert patients.attrs["classes"] == {"grade": ["G2", "G3", "G4"], "idh": ["wt", "mut"]}
    assert patients["idh"].isna().tolist() == [True] * 8 + [False] * 8
    assert patients["grade"].tolist()[3:5] == [None, "G2"]
    assert patients["event"].tolist() == [True, False] * 8
    assert patients["survival_days"].tolist() == [10.0] * 16


def test_hospitals_of_one_name_may_be_kept_apart() -> None:
    write_part("a", people("P"))
    write_part("b", people("Q"), site=["H1"] * 7 + ["unknown"])
    sites = merge_cohorts(described(shared_sites=False)).patients["site"]
    assert sorted(set(sites)) == ["a:H1", "b:H1", "unknown"]


def test_a_part_without_transcriptomes_brings_patients_only() -> None:
    write_part("a", people("P"))
    write_part("b", people("Q"), genes=[], measured=0)
    tables = merge_cohorts(described())
    assert tables.expression.patient_ids == tuple(people("P"))
    assert len(tables.groups.groups.tumor) == 6, "the groups of the part that has genes"
    write_part("a", people("P"), genes=[], measured=0)
    assert merge_cohorts(described()).expression.unit == "absent"


BROKEN: dict[str, tuple[Callable[[], object], str]] = {
    "patient in both": (
        lambda: (write_part("a", people("P")), write_part("b", ["P3", "Q1", "P5", "Q2"])),
        r"data/raw/both: 2 patients are in a and in b: P3, P5\. List them under `exclude` in cohorts/b\.yaml",
    ),
    "other unit": (
        lambda: (write_part("a", people("P")), write_part("b", people("Q"), unit="zscore")),
        r"expression is in log2_tpm in a, zscore in b\. Bring all to one: expression\.convert",
    ),
    "no common gene": (
        lambda: (write_part("a", people("P")), write_part("b", people("Q"), genes=["ENSG1", "ENSG2"])),
        r"no gene is measured in all of a, b\. Are they named alike\? expression\.symbols: approved",
    ),
    "classes in another order": (
        lambda: (
            write_part("a", people("P"), classes={"g": ["low", "high"]}, g="low"),
            write_part("b", people("Q"), classes={"g": ["high", "low"]}, g="low"),
        ),
        r"label g: b has the classes high, low, another low, high\. Write them alike",
    ),
    "a number in one part": (
        lambda: (
            write_part("a", people("P"), classes={"g": ["low", "high"]}, g="low"),
            write_part("b", people("Q"), classes={"g": []}, g=1.5),
        ),
        r"label g: a number in b, with the classes low, high in another\. Give the two different names",
    ),
    "part is missing": (
        lambda: write_part("a", people("P")),
        r"data/raw/both/b/patients\.parquet: the file does not exist",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_joined_is_said(case: str) -> None:
    write, message = BROKEN[case]
    write()
    with pytest.raises(InputError, match=message):
        merge_cohorts(described())


def test_everybody_keeps_his_folds() -> None:
    write_part("a", people("P"))
    write_part("b", people("Q"), measured=6)
    joint = merge_splits(described(), {*people("P"), *people("Q", 6)}, 2)
    parts = [pd.read_parquet(f"data/raw/both/{name}/splits.parquet") for name in "ab"]
    expected = pd.concat(parts).sort_values(["fold", "patient_id"], ignore_index=True)
    pd.testing.assert_frame_equal(joint, expected, check_dtype=False)
    assert set(joint.loc[joint["patient_id"].isin(["Q6", "Q7"]), "role"]) == {"train"}


def test_who_may_not_be_tested_here_is_learnt_from() -> None:
    write_part("a", people("P"))
    write_part("b", people("Q"), genes=[], measured=0)
    joint = merge_splits(described(), set(people("P")), 2).set_index("patient_id")
    assert set(joint.loc[people("Q"), "role"]) == {"train"}
    assert set(joint.loc[people("Q"), "inner_fold"]) == {-1}
    assert sorted(joint.index[joint["role"] == "test"]) == people("P")


def test_other_folds_are_refused() -> None:
    write_part("a", people("P"))
    write_part("b", people("Q"), folds=3)
    with pytest.raises(InputError, match=r"cohort b has 3 folds, params.yaml lists 2\. Set the same"):
        merge_splits(described(), set(people("P")), 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"combines": ["a"]}, r"combines: name two or more different cohorts, not a"),
        ({"combines": ["a", "a"]}, r"combines: name two or more different cohorts, not a, a"),
        ({"combines": ["a", "both"]}, r"both cannot be a part of itself"),
        (
            {"patients": [{"file": "p.csv", "id": "id"}]},
            r"patients: belongs into the descriptions",
        ),
        ({"import": ["x"]}, r"import: belongs into the descriptions of the combined cohorts"),
        ({"combines": []}, r"patients: the list is empty; describe at least one"),
    ],
)
def test_descriptions_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        described(**changes)
