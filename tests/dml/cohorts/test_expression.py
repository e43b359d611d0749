"""Genes are aligned by symbol: whatever order, orientation or repetition a file has, the matrix is the same."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression
from dml.cohorts.store_files import ExpressionMatrix, read_expression, write_expression
from dml.core.errors import ConfigError, InputError


def described(raw: Path, **expression: object) -> CohortDescription:
    spec = {"file": "e.csv", "orientation": "patients_as_rows", "id": "id", "unit": "log2_tpm", **expression}
    content = {"name": "x", "raw": raw, "patients": [{"file": "p.csv", "id": "id"}], "expression": spec}
    return CohortDescription.model_validate(content)


def matrix(raw: Path, table: pd.DataFrame, **expression: object) -> ExpressionMatrix:
    table.to_csv(raw / "e.csv", index=False)
    return build_expression(described(raw, **expression))


SMALL = pd.DataFrame({"id": ["B", "A"], "TP53": [1.0, 2.0], "EGFR": [3.0, 4.0], "CD3E": [5.0, 6.0]})


@settings(max_examples=20, deadline=None)
@given(
    st.permutations(["A", "B", "C", "D"]), st.permutations(["G1", "G2", "G3", "G4", "G5"]), st.booleans(), st.booleans()
)
def test_rows_columns_and_orientation_do_not_matter(tmp_path_factory, patients, genes, by_rows, packed) -> None:
    raw = tmp_path_factory.mktemp("raw")
    value = {(p, g): ord(p) - 60 + int(g[1]) / 7 for p in patients for g in genes}
    table = pd.DataFrame([[value[p, g] for g in genes] for p in patients], index=list(patients), columns=list(genes))
    spec: dict[str, object] = {
        "file": "e.tsv.gz" if packed else "e.csv",
        "orientation": "patients_as_rows",
        "id": "key",
    }
    if not by_rows:
        table, spec = table.T, {**spec, "orientation": "genes_as_rows", "id": {}, "gene": "key"}
    table.to_csv(raw / str(spec["file"]), sep="\t" if packed else ",", index_label="key")
    found = build_expression(described(raw, **spec))
    assert found.patient_ids == ("A", "B", "C", "D")
    assert found.genes == ("G1", "G2", "G3", "G4", "G5")
    expected = [[value[p, g] for g in found.genes] for p in found.patient_ids]
    np.testing.assert_allclose(found.values, np.asarray(expected, np.float32))
    assert found.values.dtype == np.float32


def test_patterns_shorten_barcodes_and_leave_other_columns_out(tmp_path: Path) -> None:
    table = pd.DataFrame({"bar": ["T-1-01A", "T-2-01A"], "age": [3, 4], "TP53_rnaseq": [1.0, 2.0], "TP53_cnv": [0, 1]})
    found = matrix(tmp_path, table, id={"column": "bar", "pattern": "^(T-.)"}, gene={"pattern": "(.+)_rnaseq$"})
    assert (found.patient_ids, found.genes) == (("T-1", "T-2"), ("TP53",))


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    found = matrix(tmp_path, pd.DataFrame({"id": ["001", "002"], "G": [1.0, 2.0]}))
    assert found.patient_ids == ("001", "002")


@pytest.mark.parametrize(
    ("unit", "convert", "expected"),
    [("tpm", "tpm", 4.0), ("log2_tpm", "log2_tpm", np.log2(2**1 - 1 + 2**3)), ("zscore", "zscore", 2.0)],
)
def test_repeated_genes_are_summed_before_the_logarithm_and_zscores_averaged(tmp_path, unit, convert, expected) -> None:
    (tmp_path / "e.csv").write_text("gene,A\nTP53,1\nEGFR,7\nTP53,3\n")
    found = build_expression(
        described(tmp_path, orientation="genes_as_rows", id={}, gene="gene", unit=unit, convert=convert)
    )
    assert found.genes == ("EGFR", "TP53")
    assert found.values.tolist() == [[7.0, np.float32(expected)]]


def test_counts_become_log2_of_counts_per_million_over_the_whole_table(tmp_path: Path) -> None:
    found = matrix(tmp_path, pd.DataFrame({"id": ["A"], "G1": [1], "G2": [999_999]}), unit="counts")
    assert found.unit == "log2_cpm"
    np.testing.assert_allclose(found.values, [[1.0, np.log2(1_000_000)]], rtol=1e-6)


def test_zscores_are_not_logged(tmp_path: Path) -> None:
    found = matrix(tmp_path, pd.DataFrame({"id": ["A"], "G1": [-1.5], "G2": [2.0]}), unit="zscore")
    assert (found.unit, found.values.tolist()) == ("zscore", [[-1.5, 2.0]])


@pytest.mark.parametrize(
    ("cell", "told"), [("", "missing or infinite"), ("inf", "missing or infinite"), ("NA", "missing or infinite")]
)
def test_missing_and_infinite_values_name_gene_and_patient(tmp_path: Path, cell: str, told: str) -> None:
    (tmp_path / "e.csv").write_text(f"id,TP53,EGFR\nA,1,2\nB,3,{cell}\n")
    with pytest.raises(InputError, match=rf"e\.csv: 1 {told} values: gene EGFR of patient B\. Fill them in"):
        build_expression(described(tmp_path))


def test_a_missing_value_in_a_repeated_gene_is_not_lost_in_its_mean(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("gene,A,B\nTP53,1,2\nTP53,,3\n")
    with pytest.raises(InputError, match="gene TP53 of patient A"):
        build_expression(described(tmp_path, orientation="genes_as_rows", id={}, gene="gene"))


def test_a_word_names_column_and_row(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("id,TP53,type\nA,1,primary\n")
    with pytest.raises(InputError, match=r"'primary' in column 'type', row 2, is not a number\. Leave non-expression"):
        build_expression(described(tmp_path))


def test_rows_of_one_patient_must_agree_unless_told_otherwise(tmp_path: Path) -> None:
    same = pd.DataFrame({"id": ["A", "B", "A"], "G": [1.0, 5.0, 1.0]})
    assert matrix(tmp_path, same).values.tolist() == [[1.0], [5.0]]
    differ = pd.DataFrame({"id": ["A", "B", "A"], "G": [1.0, 5.0, 3.0]})
    with pytest.raises(
        InputError, match=r"rows of the same patient differ: A \(of A: A, A\)\. Set expression\.repeats"
    ):
        matrix(tmp_path, differ)
    assert matrix(tmp_path, differ, repeats="mean").values.tolist() == [[2.0], [5.0]]
    assert matrix(tmp_path, differ, repeats="first").values.tolist() == [[1.0], [5.0]]


def test_a_pattern_that_matches_no_gene_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column matches '\^ENSG\(\.\+\)'\. Correct expression\.gene"):
        matrix(tmp_path, SMALL, gene={"pattern": "^ENSG(.+)"})


def test_an_impossible_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"log2_tpm: 9000 \(gene TP53 of patient .\).* More likely they are tpm"):
        matrix(tmp_path, SMALL.assign(TP53=9000.0))
    with pytest.raises(
        InputError, match=r"tpm: -1 \(gene TP53 of patient .\).* More likely they are log2_\.\.\. or zscore"
    ):
        matrix(tmp_path, SMALL.assign(TP53=-1.0), unit="tpm")
    with pytest.raises(ConfigError, match=r"zscore cannot become log2_tpm; it can become zscore"):
        matrix(tmp_path, SMALL, unit="zscore", convert="log2_tpm")


def test_excluded_patients_are_left_out(tmp_path: Path) -> None:
    SMALL.to_csv(tmp_path / "e.csv", index=False)
    description = described(tmp_path).model_copy(update={"exclude": {"A": "control"}})
    assert build_expression(description).patient_ids == ("B",)


def test_written_and_read_back_bit_by_bit(tmp_path: Path) -> None:
    found = matrix(tmp_path, SMALL)
    write_expression(tmp_path / "e.parquet", found)
    back = read_expression(tmp_path / "e.parquet")
    assert (back.patient_ids, back.genes, back.unit, back.source) == (
        found.patient_ids,
        found.genes,
        "log2_tpm",
        found.source,
    )
    np.testing.assert_array_equal(back.values, found.values)
    assert back.subset({"B"}).values.tolist() == [[5.0, 3.0, 1.0]]


def test_a_cohort_without_expression_has_an_empty_matrix(tmp_path: Path) -> None:
    description = CohortDescription.model_validate(
        {"name": "x", "raw": tmp_path, "patients": [{"file": "p", "id": "i"}]}
    )
    write_expression(tmp_path / "e.parquet", build_expression(description))
    back = read_expression(tmp_path / "e.parquet")
    assert (back.patient_ids, back.genes, back.unit, back.values.shape) == ((), (), "absent", (0, 0))
