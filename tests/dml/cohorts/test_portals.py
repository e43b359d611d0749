"""Expression as GDC, cBioPortal, UCSC Xena and AnnData hand it out: one truth, five formats, the same matrix."""

import gzip
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression
from dml.cohorts.store_files import ExpressionMatrix
from dml.core.errors import InputError
from tests import portals

GENES = ["CD3E", "EGFR", "HLA-DRA", "MARCHF1", "PTPRC", "TP53"]
PATIENTS = portals.tcga(5)
TRUTH = portals.expression_of(PATIENTS, GENES)
DAYS, DEAD = pd.Series(range(10, 15), PATIENTS), pd.Series([1, 0, 1, 0, 1], PATIENTS)


def build(raw: Path, **expression: object) -> ExpressionMatrix:
    content = {"name": "x", "raw": raw, "patients": [{"file": "p.csv", "id": "id"}], "expression": expression}
    return build_expression(CohortDescription.model_validate(content))


def gdc(raw: Path, **changes: object) -> ExpressionMatrix:
    sheet = "gdc_sample_sheet.2026-01-15.tsv"
    return build(raw, **{"format": "gdc_star_counts", "folder": "gdc", "sample_sheet": sheet, **changes})


def assert_is_the_truth(found: ExpressionMatrix, unit: str = "log2_tpm") -> None:
    assert (found.patient_ids, found.genes, found.unit) == (tuple(sorted(PATIENTS)), tuple(GENES), unit)
    expected = np.log2(TRUTH.loc[sorted(PATIENTS), GENES] + 1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)


@pytest.mark.parametrize("new_sheet", [False, True])
def test_gdc(tmp_path: Path, new_sheet: bool) -> None:
    portals.write_gdc(tmp_path, TRUTH, {PATIENTS[0]: "Solid Tissue Normal"} if not new_sheet else {}, new_sheet)
    assert_is_the_truth(gdc(tmp_path))


def test_gdc_counts_are_scaled_by_all_genes_then_restricted(tmp_path: Path) -> None:
    portals.write_gdc(tmp_path, TRUTH)
    found = gdc(tmp_path, measure="unstranded")
    assert (found.unit, found.genes) == ("log2_cpm", tuple(GENES)), "the lncRNA counts, but is not stored"
    counts = (TRUTH.loc[sorted(PATIENTS)] * 10).round()
    total = counts.sum(axis=1) + 7
    np.testing.assert_allclose(found.values, np.log2(counts.div(total, axis=0) * 1e6 + 1), rtol=1e-5)
    assert "ENSG00000290825" in gdc(tmp_path, gene_types=()).genes


def test_gdc_says_which_file_is_wrong(tmp_path: Path) -> None:
    portals.write_gdc(tmp_path, TRUTH)
    files = sorted((tmp_path / "gdc").rglob("*.tsv"))
    whole = files[0].read_text()
    files[0].write_text(whole.replace("tpm_unstranded", "tpm"))
    with pytest.raises(InputError, match=rf"{files[0].name}: not a STAR counts file with gene_id, .*no tpm_unstranded"):
        gdc(tmp_path)
    files[0].write_text("\n".join(whole.splitlines()[:-2]))
    with pytest.raises(
        InputError, match=rf"{files[0].name}: [0-9]+ genes, not the [0-9]+ of|{files[1].name}: [0-9]+ genes, not"
    ):
        gdc(tmp_path)
    files[0].unlink()
    with pytest.raises(InputError, match=rf"1 files of gdc_sample_sheet.* are not there: {files[0].name}"):
        gdc(tmp_path)
    with pytest.raises(InputError, match=r"no expression of type Metastatic; it has Primary Tumor\. Correct"):
        gdc(tmp_path, sample_types=("Metastatic",))


def cbio(raw: Path, **changes: object) -> ExpressionMatrix:
    spec = {"format": "cbioportal", "file": "data_mrna_seq_v2_rsem.txt", "unit": "rsem", **changes}
    return build(raw / "study", **spec)


def test_cbioportal(tmp_path: Path) -> None:
    portals.write_cbioportal(tmp_path / "study", TRUTH, DAYS, DEAD)
    assert_is_the_truth(cbio(tmp_path), "log2_rsem")


def test_cbioportal_trusts_the_entrez_id_over_an_old_symbol(tmp_path: Path) -> None:
    portals.write_cbioportal(tmp_path / "study", TRUTH, DAYS, DEAD)
    path = tmp_path / "study/data_mrna_seq_v2_rsem.txt"
    path.write_text(path.read_text().replace("MARCHF1\t", "MARCH1\t").replace("TP53\t", "\t"))
    assert_is_the_truth(cbio(tmp_path), "log2_rsem")
    assert cbio(tmp_path, symbols="as_written").genes == ("7157", "CD3E", "EGFR", "HLA-DRA", "MARCH1", "PTPRC")
    path.write_text(path.read_text().replace("\t7157\t", "\t\t"))
    with pytest.raises(InputError, match=r"neither symbol nor Entrez id in row 7\. Name or delete"):
        cbio(tmp_path)


def test_cbioportal_genes_with_gaps_are_left_out_and_told(tmp_path: Path, caplog) -> None:
    portals.write_cbioportal(tmp_path / "study", TRUTH, DAYS, DEAD)
    path = tmp_path / "study/data_mrna_seq_v2_rsem.txt"
    lines = path.read_text().splitlines()
    lines[2] = "\t".join([*lines[2].split("\t")[:-1], "NA"])
    path.write_text("\n".join(lines) + "\n")
    assert cbio(tmp_path).genes == ("CD3E", "HLA-DRA", "MARCHF1", "PTPRC", "TP53")
    assert "1 genes with missing values are left out: EGFR" in caplog.text
    with pytest.raises(InputError, match="1 missing or infinite values: gene EGFR of patient TCGA-14-1004"):
        cbio(tmp_path, missing="fail")


def test_cbioportal_samples_of_another_study(tmp_path: Path) -> None:
    portals.write_cbioportal(tmp_path / "study", TRUTH, DAYS, DEAD)
    path = tmp_path / "study/data_clinical_sample.txt"
    path.write_text(path.read_text().replace("TCGA", "CPTAC"))
    with pytest.raises(InputError, match=r"none of its samples \(TCGA-02-1001-01, .*\) is in data_clinical_sample"):
        cbio(tmp_path)


def xena(raw: Path, **changes: object) -> ExpressionMatrix:
    return build(raw, **{"format": "xena", "file": "TCGA-GBM.star_tpm.tsv.gz", "unit": "log2_tpm", **changes})


def test_xena_leaves_normal_tissue_out(tmp_path: Path) -> None:
    portals.write_xena(tmp_path, TRUTH, DAYS, DEAD)
    assert_is_the_truth(xena(tmp_path))


def test_xena_toil_has_an_offset_of_a_thousandth(tmp_path: Path) -> None:
    table = np.log2(TRUTH.T + 0.001).set_axis([f"{p}-01" for p in PATIENTS], axis=1)
    table.iloc[2, 1] = np.log2(0.001)
    with gzip.open(tmp_path / "TCGA-GBM.star_tpm.tsv.gz", "wt") as file:
        table.to_csv(file, sep="\t", index_label="sample")
    found = xena(tmp_path, log_offset=0.001)
    assert found.values[found.patient_ids.index(PATIENTS[1]), GENES.index("HLA-DRA")] == 0.0
    expected = TRUTH.copy()
    expected.iloc[1, 2] = 0.0
    np.testing.assert_allclose(found.values, np.log2(expected.loc[sorted(PATIENTS)] + 1), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match=r"negative values: this cannot be log2_tpm.*log_offset: 0.001 is missing"):
        xena(tmp_path)


def test_xena_names_samples_that_do_not_match(tmp_path: Path) -> None:
    portals.write_xena(tmp_path, TRUTH, DAYS, DEAD)
    with pytest.raises(InputError, match=r"no sample matches '\^\(C3.-.+\)'; there are TCGA-02-1001-01A"):
        xena(tmp_path, id="^(C3.-.+)")


def write_h5ad(path: Path, kind: str) -> None:
    """As anndata 0.8 and later lay a file out."""
    from scipy import sparse

    with h5py.File(path, "w") as file:
        if kind == "array":
            file.create_dataset("X", data=TRUTH.to_numpy(np.float32)).attrs["encoding-type"] = "array"
        else:
            matrix = getattr(sparse, kind)(TRUTH.to_numpy())
            group = file.create_group("X")
            group.attrs.update({"encoding-type": kind, "shape": matrix.shape})
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(matrix, name)
        text = h5py.string_dtype()
        obs, var = file.create_group("obs"), file.create_group("var")
        obs.attrs["_index"], var.attrs["_index"] = "barcode", "_index"
        obs.create_dataset("barcode", data=[f"{p}-01A" for p in PATIENTS], dtype=text)
        categorical = obs.create_group("patient")
        categorical["codes"] = np.arange(5, dtype=np.int8)
        categorical.create_dataset("categories", data=PATIENTS, dtype=text)
        var.create_dataset("_index", data=[portals.known_genes()[g][0] for g in GENES], dtype=text)
        file.create_group("layers").create_dataset("ones", data=np.ones(TRUTH.shape))


@pytest.mark.parametrize("kind", ["array", "csr_matrix", "csc_matrix"])
@pytest.mark.parametrize("key", ["patient", {"column": "barcode", "pattern": "^(TCGA-..-....)"}])
def test_h5ad(tmp_path: Path, kind: str, key: object) -> None:
    write_h5ad(tmp_path / "e.h5ad", kind)
    assert_is_the_truth(build(tmp_path, format="h5ad", file="e.h5ad", unit="tpm", id=key))


def test_h5ad_says_what_there_is(tmp_path: Path) -> None:
    write_h5ad(tmp_path / "e.h5ad", "array")
    spec = {"format": "h5ad", "file": "e.h5ad", "unit": "tpm"}
    assert build(tmp_path, **spec, layer="ones").values.max() == 1.0
    with pytest.raises(InputError, match=r"no layer 'counts'; there are X, ones"):
        build(tmp_path, **spec, layer="counts")
    with pytest.raises(InputError, match=r"no column 'case' in obs; it has barcode, patient"):
        build(tmp_path, **spec, id="case")
    (tmp_path / "e.h5ad").write_text("no")
    with pytest.raises(InputError, match=r"e\.h5ad: cannot be read .*anndata 0\.7"):
        build(tmp_path, **spec)


def test_groups_follow_the_symbols_of_the_matrix(tmp_path: Path) -> None:
    from dml.cohorts.gene_groups import build_gene_groups

    portals.write_xena(tmp_path, TRUTH, DAYS, DEAD)
    (tmp_path / "groups.csv").write_text("tumor,tme\nHER2,MARCH1\nTP53,CD3E\n")
    expression = {"format": "xena", "file": "TCGA-GBM.star_tpm.tsv.gz", "unit": "log2_tpm"}
    content = {"name": "x", "raw": tmp_path, "patients": [{"file": "p.csv", "id": "id"}], "gene_groups": "groups.csv"}
    renamed = build_gene_groups(CohortDescription.model_validate({**content, "expression": expression}))
    assert (renamed.tumor, renamed.tme) == (("ERBB2", "TP53"), ("CD3E", "MARCHF1"))
    as_written = {**expression, "symbols": "as_written"}
    plain = build_gene_groups(CohortDescription.model_validate({**content, "expression": as_written}))
    assert (plain.tumor, plain.tme) == (("HER2", "TP53"), ("CD3E", "MARCH1"))
