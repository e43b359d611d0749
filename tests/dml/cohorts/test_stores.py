"""A cohort's tables together; on the real cohort, the counts that its sources promise."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dml.cohorts.description import CohortDescription
from dml.cohorts.import_raw import import_cohort
from dml.cohorts.splits import make_splits
from dml.cohorts.store_files import read_patients
from dml.cohorts.stores import build_cohort, write_cohort
from dml.config.params import Split

ROOT = Path(__file__).resolve().parents[3]


def test_patients_without_slide_and_expression_are_kept_or_left_out(describe, tables, caplog) -> None:
    slides = tables["slides"]
    tables["slides"] = slides[~slides["patient"].isin(["P23", "P01"])]
    assert len(build_cohort(describe(tables)).patients) == 24
    with caplog.at_level(logging.INFO):
        kept = build_cohort(describe(tables, keep="with_data")).patients["patient_id"]
    assert set(tables["patients"]["patient"]) - set(kept) == {"P23"}, "P01 has expression"
    assert "1 patients with neither slide nor expression are left out" in caplog.text


def test_expression_of_strangers_is_left_out_but_their_slides_are_a_fault_to_be_checked(
    describe, tables, caplog
) -> None:
    tables["expression"].loc[0, "patient"] = "X1"
    tables["slides"].loc[0, "patient"] = "X2"
    built = build_cohort(describe(tables))
    assert "X1" not in built.expression.patient_ids
    assert "X2" in set(built.slides["patient_id"])
    assert "expression of patients in no table is left out: X1" in caplog.text


def test_stores_are_the_same_bytes_every_time(describe, tables, tmp_path: Path) -> None:
    description = describe(tables)
    for run in ("first", "second"):
        write_cohort(tmp_path / run, description, build_cohort(description))
    names = sorted(p.name for p in (tmp_path / "first").iterdir())
    assert names == [
        "expression.parquet",
        "gene_groups.json",
        "patients.parquet",
        "provenance.parquet",
        "slides.parquet",
    ]
    assert all((tmp_path / "first" / n).read_bytes() == (tmp_path / "second" / n).read_bytes() for n in names)


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> CohortDescription:
    folder = tmp_path_factory.mktemp("real")
    text = (ROOT / "cohorts/tcga_gbmlgg.yaml").read_text()
    (folder / "tcga_gbmlgg.yaml").write_text(f"{text}\nraw: {folder / 'raw'}\n")
    return CohortDescription.load("tcga_gbmlgg", folder)


@pytest.mark.data
def test_the_real_cohort_has_the_patients_its_sources_promise(
    real: CohortDescription, shared_data: Path, tmp_path: Path
) -> None:
    import_cohort("tcga_gbmlgg", shared_data, real.raw_folder.parent)
    built = build_cohort(real)
    with_slide, with_rna = set(built.slides["patient_id"]), set(built.expression.patient_ids)
    patients = built.patients.set_index("patient_id")
    followed = set(patients.index[patients["survival_days"].notna() & patients["event"].notna()])
    assert len(with_slide & with_rna & followed) == 393
    assert len(with_slide - with_rna) == 220
    assert len(with_rna - with_slide) == 63
    assert (len(patients), len(built.slides)) == (676, 1247)
    assert built.expression.values.shape == (456, 1544)
    assert patients["survival_source"].value_counts().to_dict() == {"porpoise": 456, "ceccarelli": 217}
    assert patients.loc["TCGA-02-0047", "survival_days"] == pytest.approx(14.72 * 30.4375)
    assert patients.loc["TCGA-02-0047", ["site", "event", "sex", "age", "project"]].tolist() == [
        "02",
        True,
        0.0,
        78.0,
        "GBM",
    ]
    assert patients["project"].value_counts().to_dict() == {"LGG": 392, "GBM": 284}
    assert patients["who2021"].value_counts().to_dict() == {
        "glioblastoma": 215,
        "astrocytoma": 173,
        "oligodendroglioma": 114,
    }
    assert 300 <= len(built.groups.groups.tumor) <= 360
    assert 300 <= len(built.groups.groups.tme) <= 360
    assert not set(built.groups.groups.tumor) & set(built.groups.groups.tme)

    write_cohort(tmp_path, real, built)
    stored = read_patients(tmp_path / "patients.parquet")
    splits = make_splits(stored, with_slide & with_rna, 5, Split(stratify=("event", "project")), seed=7)
    tested = splits[splits["role"] == "test"].merge(stored[["patient_id", "event", "project"]], on="patient_id")
    assert len(tested) == 393
    assert np.ptp(tested["fold"].value_counts()) <= 1
    assert np.ptp(pd.crosstab(tested["fold"], [tested["event"], tested["project"]]).to_numpy(), axis=0).max() <= 1
