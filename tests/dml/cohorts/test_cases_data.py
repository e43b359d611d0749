"""The table cases of ../shared/cases: each comes out right, or is refused with the cause and the remedy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dml.checks.run import check_cohort
from dml.cohorts.description import CohortDescription
from dml.cohorts.stores import CohortTables, build_cohort, write_cohort
from dml.config.params import Checks
from dml.core.errors import CheckFailed, ConfigError, InputError

pytestmark = pytest.mark.data

CASES = Path(__file__).resolve().parents[4] / "shared/cases/tables"
FIRST = "TCGA-AB-0001"


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], CohortTables]:
    """Build one case in a folder of its own, check it and return its tables."""
    if not CASES.is_dir():
        pytest.skip(f"the cases are not in {CASES}")
    monkeypatch.chdir(tmp_path)

    def build(name: str) -> CohortTables:
        shutil.copytree(CASES / name, f"data/raw/{name}")
        Path("cohorts").mkdir()
        shutil.copy(CASES / name / f"{name}.yaml", "cohorts")
        description = CohortDescription.load(name)
        tables = build_cohort(description)
        write_cohort(Path("data") / name, description, tables)
        check_cohort(Path("data") / name, description, Checks(), Path("reports"), ["survival"])
        return tables

    return build


def value(tables: CohortTables, patient: str, gene: str) -> float:
    matrix = tables.expression
    return float(matrix.values[matrix.patient_ids.index(patient), matrix.genes.index(gene)])


def summary() -> str:
    return Path("reports/cohort/summary.txt").read_text()


REFUSED = {
    "cdate2": (InputError, r"2 gene names are dates, as Excel makes them: 1-Mar, 2-Sep"),
    "einf": (InputError, r"gene CDK4 of patient TCGA-CD-0004, gene PDGFRA of patient TCGA-CD-0006"),
    "gtrunc": (InputError, r"u005\.rna_seq.*row 21 has 3 cells, not 9.*cut"),
    "mdays": (InputError, r"'OS_MONTHS' is declared in days.*survival\.confirmed: true"),
    "odd": (ConfigError, r"unlike G2 / low \(±\), G3\+, .*map the cells in `sources`"),
    "x999": (InputError, r"-999 \(gene PTEN of patient TCGA-CD-0006\), -999 \(gene KRAS of patient TCGA-CD-0010\)"),
    "xdbl": (InputError, r"cannot be tpm\. More likely it is log2_tpm"),
    "xoff": (InputError, r"is -9\.97, the lowest value is 0\.00 \(123 times\).*log_offset: 1"),
    "edots": (CheckFailed, r"TCGA\.AB\.0001.* \| TCGA-AB-0001.*read as dashes: TCGA\.AB\.0001 is TCGA-AB-0001"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_cause_and_remedy(case, name: str) -> None:
    error, message = REFUSED[name]
    with pytest.raises(error, match=f"(?s){message}"):
        case(name)


@pytest.mark.parametrize("name", ["fcr", "fxz", "fxlsx", "pqidx", "h3", "cnotype", "gfu"])
def test_read_whole(case, name: str) -> None:
    tables = case(name)
    assert (len(tables.patients), tables.patients["survival_days"].notna().sum()) == (40, 40)
    assert tables.expression.values.shape == (40, 30)
    assert value(tables, FIRST, "EGFR") == pytest.approx(np.log2(43.076 + 1), rel=1e-5)
    days = tables.patients.set_index("patient_id")["survival_days"]
    assert days[FIRST] == pytest.approx(2556, abs=0.6)
    assert days["TCGA-CD-0006"] == pytest.approx(151, abs=0.6)


def test_xpar_copies_on_x_and_y_are_one_gene(case) -> None:
    tables = case("xpar")
    raw = pd.read_csv("data/raw/xpar/x.tsv.gz", sep="\t", index_col=0)
    column = f"{FIRST}-01A"
    (on_x,) = [name for name in raw.index if name.startswith("ENSG00000002586") and not name.endswith("_PAR_Y")]
    expected = raw.loc[on_x, column]
    assert value(tables, FIRST, "CD99") == pytest.approx(expected, rel=1e-6)
    assert "3 of 43" not in summary()
    assert "1 x tissue normal: does not match expression.id" in summary()


@pytest.mark.parametrize("name", ["gali1", "gali2"])
def test_of_two_aliquots_the_deeper_counts_whatever_the_file_is_called(case, name: str) -> None:
    assert value(case(name), FIRST, "EGFR") == pytest.approx(np.log2(8.009 + 1), rel=1e-5)
    assert f"patient_id {FIRST}, taken {FIRST}-01A" in summary()
    assert "aliquot with the" in summary()


def test_cmet_the_primary_counts(case) -> None:
    assert value(case("cmet"), FIRST, "EGFR") == pytest.approx(np.log2(43.076 + 1), rel=1e-5)
    assert f"taken {FIRST}-01, left_out {FIRST}-00, rule Primary before" in summary()


def test_gclin_time_goes_by_the_event(case) -> None:
    patients = case("gclin").patients.set_index("patient_id")
    assert patients.loc[FIRST, ["survival_days", "event"]].tolist() == [1200, False]
    assert patients.loc["TCGA-CD-0006", ["survival_days", "event"]].isna().all()
    assert patients.loc["TCGA-AB-0007", ["survival_days", "event"]].tolist() == [0, True]
    for text in ("alive with a day of death (300)", "dead without a day of death", "no follow-up of day 0"):
        assert text in summary()


def test_gfu_the_latest_of_several_visits_counts(case) -> None:
    tables = case("gfu")
    rules = {r.patient_id: r.rule for r in tables.ledger.records if r.item == "survival" and r.status == "used"}
    assert rules[FIRST] == "latest of 3 rows"


def test_sl11_normal_tissue_is_no_slide_of_a_tumor(case) -> None:
    tables = case("sl11")
    assert len(tables.slides) == 39
    assert FIRST not in set(tables.slides["patient_id"])
    assert "1 x tissue normal: not of the tumor" in summary()


def test_lnone_a_listed_class_is_no_missing_value(case) -> None:
    tables = case("lnone")
    assert tables.patients["arm"].value_counts().to_dict() == {"None": 20, "Radiation": 20}
    assert tables.patients["g"].value_counts().to_dict() == {"1": 20, "2": 20}


def test_xskcm2_what_was_left_out_is_counted(case) -> None:
    assert len(case("xskcm2").expression.patient_ids) == 25
    assert "15 x metastasis: does not match expression.id" in summary()
