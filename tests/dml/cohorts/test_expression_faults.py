"""Matrices that look right and are not: each kind has its right value, or a refusal that names gene and patient."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression
from dml.cohorts.provenance import Ledger
from dml.cohorts.store_files import ExpressionMatrix
from dml.core.errors import InputError

PATIENTS = [f"TCGA-02-{i:04d}" for i in range(40)]
GENES = [f"G{i}" for i in range(30)]


def build(folder: Path, ledger: Ledger | None = None, **expression: object) -> ExpressionMatrix:
    content = {"name": "x", "raw": folder, "patients": [{"file": "p", "id": "i"}], "expression": expression}
    return build_expression(CohortDescription.model_validate(content), ledger)


def matrix(folder: Path, frame: pd.DataFrame, unit: str, ledger: Ledger | None = None, **spec: object):
    """Build from samples (rows) by genes."""
    frame.to_csv(folder / "e.csv", index_label="id")
    keys = {"file": "e.csv", "orientation": "patients_as_rows", "id": "id", "unit": unit}
    return build(folder, ledger, **{**keys, **spec})


@pytest.fixture
def tpm(rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(rng.gamma(2, 20, (40, 30)).round(3), index=PATIENTS, columns=GENES)


PAR = ["ENSG00000002586.20", "ENSG00000002586.20_PAR_Y", "ENSG00000198223.16", "ENSG00000198223.16_PAR_Y"]


@pytest.mark.parametrize("copies", [PAR, [p.replace("ENSG0", "ENSGR") if "_PAR" in p else p for p in PAR]])
@pytest.mark.parametrize("symbols", ["approved", "as_written"])
@pytest.mark.parametrize("unit", ["tpm", "log2_tpm", "zscore"])
def test_copies_of_a_pseudo_autosomal_gene_add_up(tmp_path, copies: list[str], symbols: str, unit: str) -> None:
    """The Y copy of a STAR matrix is 0: halving the gene (averaging logarithms) was the fault."""
    copies = [name.replace("_PAR_Y", "") if "ENSGR" in name else name for name in copies]
    values = {"tpm": [12.076, 0.0], "log2_tpm": [np.log2(13.076), 0.0], "zscore": [1.25, 0.0]}[unit]
    frame = pd.DataFrame([[*values, *values[::-1]]], index=["A"], columns=copies)
    result = matrix(tmp_path, frame, unit, symbols=symbols)
    names = ("CD99", "CSF2RA") if symbols == "approved" else ("ENSG00000002586.20", "ENSG00000198223.16")
    expected = {"tpm": np.log2(13.076), "log2_tpm": np.log2(13.076), "zscore": 1.25}[unit]
    assert result.genes == names
    assert result.values[0, 0] == pytest.approx(expected, rel=1e-6)
    assert result.values[0, 1] == pytest.approx(0.0 if unit == "zscore" else expected, rel=1e-6)


def test_reads_on_both_copies_are_summed_before_the_logarithm(tmp_path: Path) -> None:
    frame = pd.DataFrame([[np.log2(10 + 0.001), np.log2(5 + 0.001)]], index=["A"], columns=PAR[:2])
    result = matrix(tmp_path, frame, "log2_tpm", log_offset=0.001)
    assert result.values.tolist() == [[pytest.approx(np.log2(15 + 1), rel=1e-6)]]


def test_genes_with_one_row_keep_their_digits(tmp_path: Path, tpm: pd.DataFrame) -> None:
    logged = np.log2(tpm + 1)
    doubled = pd.concat([logged, logged[["G3"]]], axis=1)
    doubled.T.to_csv(tmp_path / "e.csv", index_label="gene")
    spec = {"file": "e.csv", "orientation": "genes_as_rows", "gene": "gene", "unit": "log2_tpm"}
    result = pd.DataFrame(build(tmp_path, **spec).values, index=PATIENTS, columns=sorted(GENES))
    others = [gene for gene in GENES if gene != "G3"]
    np.testing.assert_array_equal(result[others], logged[others].astype(np.float32))
    np.testing.assert_allclose(result["G3"], np.log2(2 * tpm["G3"] + 1), rtol=1e-6)


def test_names_that_excel_made_dates_are_refused_never_summed(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        np.arange(1.0, 9.0).reshape(2, 4), index=["A", "B"], columns=["EGFR", "1-Mar", "1-Mar", "2-Sep"]
    )
    frame.T.to_csv(tmp_path / "e.csv", index_label="gene")
    spec = {"file": "e.csv", "orientation": "genes_as_rows", "gene": "gene", "unit": "log2_tpm"}
    with pytest.raises(InputError, match=r"2 gene names are dates, as Excel makes them: 1-Mar, 2-Sep"):
        build(tmp_path, **spec)
    assert build(tmp_path, **spec, date_symbols="drop").genes == ("EGFR",)


def test_an_entrez_id_says_which_gene_a_date_was(tmp_path: Path) -> None:
    rows = "Hugo_Symbol\tEntrez_Gene_Id\tP1-01\n1-Mar\t55016\t3\n1-Mar\t64757\t5\nEGFR\t1956\t7\n"
    (tmp_path / "e.txt").write_text(rows)
    (tmp_path / "s.txt").write_text("SAMPLE_ID\tPATIENT_ID\nP1-01\tP1\n")
    result = build(tmp_path, format="cbioportal", file="e.txt", samples="s.txt", unit="rsem", convert="rsem")
    assert dict(zip(result.genes, result.values[0].tolist(), strict=True)) == {"EGFR": 7, "MARCHF1": 3, "MTARC1": 5}


@pytest.mark.parametrize(
    ("unit", "value"),
    [("log2_tpm", -999.0), ("log2_counts", -9999.0), ("zscore", -999.0), ("zscore", 9999.0), ("tpm", -1.0)],
)
def test_sentinels_name_gene_and_patient(tmp_path: Path, tpm: pd.DataFrame, unit: str, value: float) -> None:
    frame = {"zscore": (tpm - tpm.mean()) / tpm.std(), "tpm": tpm}.get(unit, np.log2(tpm + 1))
    frame.loc[PATIENTS[6], "G3"] = value
    with pytest.raises(InputError, match=rf"1 values cannot be {unit}: {value:g} \(gene G3 of patient TCGA-02-0006\)"):
        matrix(tmp_path, frame, unit)


def test_a_single_extreme_zscore_is_real(tmp_path: Path, tpm: pd.DataFrame) -> None:
    frame = (tpm - tpm.mean()) / tpm.std()
    frame.iloc[3, 3] = 3515.2
    assert matrix(tmp_path, frame, "zscore").values.max() == pytest.approx(3515.2)


WHOLE = 12_000


def transcriptome(rng: np.random.Generator) -> pd.DataFrame:
    values = rng.gamma(0.3, 100, (4, WHOLE))
    values[values < 1] = 0
    return pd.DataFrame(values / values.sum(axis=1, keepdims=True) * 1e6, index=list("ABCD"),
                        columns=[f"G{i}" for i in range(WHOLE)])  # fmt: skip


MISREAD = {
    "logged as tpm": (lambda t: np.log2(t + 1), "tpm", r"no value above .* More likely it is log2_tpm"),
    "logged as counts": (lambda t: np.log2(t + 1).round(), "counts", r"More likely it is log2_counts"),
    "tpm as log2_tpm": (lambda t: t, "log2_tpm", r"cannot be log2_tpm.* More likely they are tpm"),
    "tpm as counts": (lambda t: t, "counts", r"no whole numbers.* tpm, fpkm or rsem"),
    "counts as fpkm": (lambda t: (t * 10).round(), "fpkm", r"all values are whole numbers.* counts"),
    "logged twice": (lambda t: np.log2(np.log2(t + 1) + 1), "log2_tpm", r"logged twice"),
    "offset forgotten": (lambda t: np.log2(t + 0.001), "log2_tpm", r"negative values.* log_offset: 0.001"),
    "zscore of nothing below zero": (lambda t: t / 50, "zscore", r"without a negative one"),
}


@pytest.mark.parametrize("name", MISREAD)
def test_a_unit_that_the_values_contradict(tmp_path: Path, tpm: pd.DataFrame, name: str) -> None:
    change, unit, message = MISREAD[name]
    tpm = tpm.mask(tpm < 5, 0.0)
    with pytest.raises(InputError, match=message):
        matrix(tmp_path, change(tpm), unit)
    if name in ("logged as tpm", "logged twice", "tpm as counts"):
        assert matrix(tmp_path, change(tpm), unit, unit_confirmed=True).values.shape == (40, 30)


@pytest.mark.parametrize(("offset", "declared"), [(1.0, 0.001), (0.01, 0.001)])
def test_an_offset_that_the_lowest_value_contradicts(tmp_path, tpm, offset: float, declared: float) -> None:
    """With 0.001 declared, the zeros of log2(x + 1) became 0.999 TPM."""
    logged = np.log2(tpm.mask(tpm < 5, 0.0) + offset)
    with pytest.raises(InputError, match=rf"More likely it is log_offset: {offset:g}"):
        matrix(tmp_path, logged, "log2_tpm", log_offset=declared)
    assert matrix(tmp_path, logged, "log2_tpm", log_offset=offset).values.min() == pytest.approx(0.0, abs=1e-6)


MISREAD_WHOLE = {
    "fpkm": (lambda t: t / 5, "tpm", r"sum to 200,000, not to a million"),
    "counts": (lambda t: (t * 30).round() + 0.5 * (t == 0), "tpm", r"sum to .*not to a million"),
    "base ten": (lambda t: np.log10(t + 1), "log2_tpm", r"sum to .*, not to a million.*another base|logged twice"),
}


@pytest.mark.parametrize("name", MISREAD_WHOLE)
def test_a_whole_transcriptome_sums_to_a_million(tmp_path, rng: np.random.Generator, name: str) -> None:
    change, unit, message = MISREAD_WHOLE[name]
    whole = transcriptome(rng)
    assert matrix(tmp_path, whole, "tpm").unit == "log2_tpm"
    with pytest.raises(InputError, match=message):
        matrix(tmp_path, change(whole), unit)


def test_the_ledger_says_which_sample_counted(tmp_path: Path, tpm: pd.DataFrame) -> None:
    frame = tpm.iloc[:4].set_axis(["TCGA-02-0000-06A", "TCGA-02-0000-01B", "TCGA-02-0000-01A", "TCGA-02-0001-11A"])
    ledger = Ledger()
    key = {"column": "id", "pattern": "^(TCGA-..-....)"}
    result = matrix(tmp_path, frame, "tpm", ledger, id=key, repeats="first", convert="tpm")
    assert result.patient_ids == ("TCGA-02-0000",)
    order = [GENES.index(gene) for gene in result.genes]
    np.testing.assert_allclose(result.values[0], frame.iloc[2].to_numpy()[order], rtol=1e-6)
    told = [(r.source, r.status, r.row, r.rule) for r in ledger.records]
    rule = "first vial"
    assert told == [
        ("TCGA-02-0001-11A", "left out", 5, "tissue normal: not of the tumor"),
        ("TCGA-02-0000-01A", "used", 4, rule),
        ("TCGA-02-0000-06A", "left out", 2, f"another sample counts: {rule}"),
        ("TCGA-02-0000-01B", "left out", 3, f"another sample counts: {rule}"),
    ]


def test_what_matches_no_pattern_is_counted(tmp_path: Path, tpm: pd.DataFrame, caplog) -> None:
    """Of a melanoma cohort most samples are metastases, which the pattern of primary tumors does not take."""
    codes = ["-06A" if i < 15 else "-01A" for i in range(40)]
    table = np.log2(tpm.T + 1).set_axis([p + c for p, c in zip(PATIENTS, codes, strict=True)], axis=1)
    table.to_csv(tmp_path / "x.tsv", sep="\t", index_label="sample")
    ledger = Ledger()
    assert len(build(tmp_path, ledger, format="xena", file="x.tsv", unit="log2_tpm").patient_ids) == 25
    assert "15 of 40 samples are left out: 15 x metastasis: does not match expression.id" in caplog.text
    assert ledger.left_out("expression") == {"metastasis: does not match expression.id": 15}
    assert {r.patient_id for r in ledger.records if r.status == "left out"} == set(PATIENTS[:15])
