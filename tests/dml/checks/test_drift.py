"""Drift is measured, not guessed: against SciPy, where it is planted, and none where there is none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dml.checks import drift
from dml.checks.drift import (
    classifier_auc,
    compare_genes,
    compare_genes_of_groups,
    compare_groups,
    compare_labels,
    compare_numbers,
    difference,
)
from dml.checks.drift_report import compare_cohorts, write_comparison, write_drifts
from dml.cohorts.patients import write_patients
from dml.cohorts.store_files import ExpressionMatrix, write_expression
from dml.core.errors import InputError

GENES = tuple(f"G{i:02d}" for i in range(40))


def matrix(values: np.ndarray, prefix: str = "P", unit: str = "log2_tpm") -> ExpressionMatrix:
    ids = tuple(f"{prefix}{i:03d}" for i in range(len(values)))
    return ExpressionMatrix(ids, GENES[: values.shape[1]], values.astype(np.float32), unit, "test")


def test_differences_are_cohens_d_and_scipys_ks(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(30, 40)), rng.normal(0.5, 2, size=(20, 40))
    table, notes = compare_genes(matrix(a), matrix(b, "Q"))
    assert notes == ()
    low, high = np.percentile(np.vstack([a, b]).astype(np.float32).astype(np.float64), (1, 99), axis=0)
    a, b = a.clip(low, high), b.clip(low, high)
    for row in table.itertuples():
        x, y = a[:, GENES.index(row.gene)], b[:, GENES.index(row.gene)]
        pooled = np.sqrt((29 * x.var(ddof=1) + 19 * y.var(ddof=1)) / 48)
        assert row.d == pytest.approx((y.mean() - x.mean()) / pooled, rel=1e-4)
        assert row.ks == pytest.approx(stats.ks_2samp(x, y).statistic)
    assert table["d"].abs().is_monotonic_decreasing


def test_a_gene_that_does_not_vary() -> None:
    a, b = np.zeros((3, 3)), np.zeros((3, 3))
    b[:, 1], b[:, 2] = 5.0, [1.0, 2.0, 3.0]
    assert difference(a, b)[:2].tolist() == [0.0, np.inf]
    assert np.isfinite(difference(a, b)[2])


def test_groups_are_told_apart_only_where_they_differ(rng: np.random.Generator) -> None:
    a = rng.normal(size=(60, 30))
    assert abs(classifier_auc(a[:30], a[30:]) - 0.5) < 0.25
    assert classifier_auc(a[:30], a[30:] + 2) > 0.98
    assert classifier_auc(a[:4], a[30:]) is None, "too few to cross-validate"


def test_units_and_missing_genes_are_said_first(rng: np.random.Generator) -> None:
    a, b = matrix(rng.normal(size=(9, 40))), matrix(rng.normal(size=(9, 30)), "Q", "zscore")
    table, notes = compare_genes(a, b)
    assert len(table) == 30
    assert notes[0].startswith("units differ (log2_tpm and zscore)")
    assert notes[1] == "30 genes in both, 40 and 30 in each"


def test_labels_and_numbers() -> None:
    a = pd.DataFrame({"grade": ["lo", "lo", "hi", None], "age": [50, 60, 70, None], "sex": 1.0, "event": [True] * 4})
    b = pd.DataFrame({"grade": ["hi"] * 4, "age": 80.0, "sex": 1.0, "event": [True, False, False, False]})
    a["survival_days"], b["survival_days"] = [10, 20, 30, 40], [100, 200, 300, 400]
    labels = compare_labels(a, b, {"grade": ["lo", "hi"], "other": ["x", "y"]})
    assert labels["class"].tolist() == ["lo", "hi"]
    assert labels["share_a"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert labels["distance"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert labels["known_a"].tolist() == [3, 3]
    a["purity"], b["purity"] = [0.2, 0.4, None, 0.6], 0.5
    assert compare_labels(a, b, {"purity": []}).empty
    numbers = compare_numbers(a, b, ["purity", "elsewhere"]).set_index("quantity")
    assert numbers.loc["purity", ["a", "b"]].tolist() == pytest.approx([0.4, 0.5])
    assert "elsewhere" not in numbers.index
    assert numbers.loc["age", ["a", "b"]].tolist() == [60.0, 80.0]
    assert numbers.loc["days of follow-up (median)", ["a", "b"]].tolist() == [25.0, 250.0]
    assert numbers.loc["share of deaths", ["a", "b"]].tolist() == [1.0, 0.25]


def cohort(folder: Path, prefix: str, shift: float, rng: np.random.Generator, sites: int = 2) -> Path:
    """Stores of 40 patients; the second half of the genes is shifted in the last site."""
    values = rng.normal(size=(40, 40))
    site = np.array([f"S{i % sites}" for i in range(40)])
    values[site == f"S{sites - 1}", 20:] += shift
    m = matrix(values, prefix)
    patients = pd.DataFrame({"patient_id": m.patient_ids, "site": site, "survival_days": 9.0, "event": True})
    patients = patients.assign(age=50.0 + np.arange(40), sex=1.0, grade=np.where(site == "S0", "lo", "hi"))
    write_patients(folder / "patients.parquet", patients, {"grade": ["lo", "hi"]}, folder.name)
    write_expression(folder / "expression.parquet", m)
    from dml.cohorts.slide_table import SCHEMA, write_slides
    from dml.core.files import write_json

    write_slides(folder / "slides.parquet", SCHEMA.empty_table().to_pandas())
    write_json(folder / "gene_groups.json", {"tumor": list(GENES[:20]), "tme": list(GENES[20:])})
    return folder


def test_sites_are_compared_with_all_others(tmp_path: Path, rng: np.random.Generator) -> None:
    from dml.cohorts.stores import read_cohort_tables

    stores = read_cohort_tables(cohort(tmp_path / "a", "P", 3.0, rng))
    drifts = compare_groups("site", stores.patients, stores.expression, stores.classes, 10)
    assert list(drifts) == ["S0", "S1"]
    assert drifts["S1"].drifted == 0.5
    assert set(drifts["S1"].genes["gene"].head(20)) == set(GENES[20:])
    assert (drifts["S1"].genes["d"].head(20) > 0).all()
    assert (drifts["S0"].genes["d"].head(20) < 0).all()
    assert compare_groups("site", stores.patients, stores.expression, stores.classes, 30) == {}
    write_drifts(tmp_path / "drift.csv", drifts)
    table = pd.read_csv(tmp_path / "drift.csv")
    assert set(table["kind"]) == {"gene", "label", "number"}
    assert table.query("site == 'S1' and name == 'grade = hi'")[["others", "here"]].to_numpy().tolist() == [[0.0, 1.0]]


def test_two_cohorts_on_one_page(tmp_path: Path, rng: np.random.Generator) -> None:
    first, second = cohort(tmp_path / "a", "P", 0.0, rng), cohort(tmp_path / "b", "Q", 2.0, rng, sites=1)
    text = write_comparison(tmp_path / "out", compare_cohorts(first, second))
    assert text.startswith("b compared with a\n")
    assert "Genes: 50% of 40 differ by 0.8 deviations or more; AUC 1.00" in text
    assert "no encoder and resolution in common" in text
    assert max(map(len, text.splitlines())) <= 120
    assert (tmp_path / "out/summary.txt").read_text() == text
    assert len(pd.read_csv(tmp_path / "out/genes.csv")) == 40
    with pytest.raises(InputError, match=r"this cohort was not built\. dml cohort use nope"):
        compare_cohorts(first, tmp_path / "nope")


@pytest.mark.parametrize("decimals", [0, 6])  # with many equal values, and with few
def test_one_sort_for_all_groups_is_each_group_against_the_others(rng: np.random.Generator, decimals: int) -> None:
    values = rng.normal(size=(90, 40)).round(decimals)
    values[:, 0] = 3.0
    groups = [("A", "B", "C", None)[i] for i in rng.integers(0, 4, len(values))]
    values[:, 1] = [2.5 if group == "B" else 0.1 for group in groups]
    expression = matrix(values)
    known = dict(zip(expression.patient_ids[:80], groups[:80], strict=True))  # ten have no clinical data
    tables = compare_genes_of_groups(expression, known)
    assert sorted(tables) == ["A", "B", "C"]
    for group, table in tables.items():
        inside = {patient for patient, each in known.items() if each == group}
        slow, _ = compare_genes(expression.subset(set(known) - inside), expression.subset(inside))
        table, slow = table.sort_values("gene"), slow.sort_values("gene")
        assert table["ks"].to_list() == slow["ks"].to_list(), "whole numbers divided: equal to the last digit"
        for column in ("mean_a", "mean_b", "d"):
            np.testing.assert_allclose(table[column], slow[column], rtol=1e-9, atol=1e-12)


def test_one_group_has_nobody_to_be_compared_with(rng: np.random.Generator) -> None:
    expression = matrix(rng.normal(size=(9, 40)))
    assert compare_genes_of_groups(expression, dict.fromkeys(expression.patient_ids, "A")) == {}


@pytest.mark.parametrize("rank", [2, 40])
def test_a_few_components_tell_groups_apart_as_all_would(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    rows = rng.normal(size=(120, rank)) @ rng.normal(size=(rank, 90)) + 0.1 * rng.normal(size=(120, 90))
    first, second = rows[:70], rows[70:] + 0.2
    few = classifier_auc(first, second)
    monkeypatch.setattr(drift, "FEW", 1e9)
    assert few == pytest.approx(classifier_auc(first, second), abs=1e-9)


def test_rows_that_are_all_the_same_cannot_be_told_apart() -> None:
    assert classifier_auc(np.ones((60, 80)), np.ones((60, 80))) == 0.5


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of scikit-learn, if four fifths are all alike
def test_rows_that_differ_in_one_fold_only_are_compared(rng: np.random.Generator) -> None:
    rows = np.ones((60, 80))
    other = rows.copy()
    other[7] = rng.normal(size=80)
    assert classifier_auc(rows, other) == pytest.approx(0.5, abs=0.1)
