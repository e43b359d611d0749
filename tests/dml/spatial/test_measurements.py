"""Signatures, proportions and regions of spots by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from dml.cohorts.spot_store import SpotTable
from dml.core.types import GeneGroups
from dml.spatial.measurements import STROMA_AND_IMMUNE, TUMOR_REGIONS, Terms, measure_spots

TERMS = Terms.read()
GROUPS = GeneGroups(("EPCAM", "KRT8", "KRT18"), ("CD3E",))


def make_section(n: int = 40) -> SpotTable:
    random = np.random.default_rng(0)
    genes = ("ABC1", "CD3E", "EPCAM", "KRT18", "KRT8")
    counts = random.poisson(4, size=(n, len(genes))).astype(np.float32)
    region = np.array(["invasive cancer", "connective tissue", "adipose tissue", "undetermined", None], object)
    columns = {
        "n_counts": counts.sum(1),
        "on_tissue": True,
        "region": region[np.arange(n) % 5],
        "proportion.T-cells": random.random(n),
        "proportion.CAFs": random.random(n),
        "proportion.Epithelial": random.random(n),
    }
    return SpotTable(pd.DataFrame(columns), sparse.csr_matrix(counts), genes, 200.0, 100.0)


def test_a_signature_is_the_mean_of_standardised_log_counts() -> None:
    section = make_section()
    counts = np.asarray(section.counts.todense(), float)
    logs = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))[:, [2, 3, 4]]
    expected = ((logs - logs.mean(0)) / logs.std(0)).mean(1)
    measured = measure_spots(section, TERMS, GROUPS)
    assert measured["signature.tumor genes of the model"].to_numpy() == pytest.approx(expected)
    assert measured["signature.tumor"].to_numpy() == pytest.approx(expected), "the other markers are not counted"
    assert measured["gene.EPCAM"].to_numpy() == pytest.approx(logs[:, 0])
    assert "signature.TME genes of the model" not in measured, "one gene is no signature"
    assert "gene.COL1A1" not in measured


def test_the_depth_of_a_spot_changes_no_expression() -> None:
    section = make_section()
    deeper = replace(section, counts=sparse.csr_matrix(section.counts.multiply(np.arange(1, 41)[:, None])))
    pd.testing.assert_frame_equal(measure_spots(section, TERMS, GROUPS), measure_spots(deeper, TERMS, GROUPS))


def test_unknown_regions_are_missing_and_adipose_spots_have_no_proportions() -> None:
    section = make_section()
    measured, region = measure_spots(section, TERMS, GROUPS), section.spots["region"]
    known = region.isin(["invasive cancer", "connective tissue", "adipose tissue"])
    assert measured[TUMOR_REGIONS].notna().equals(known)
    assert (measured.loc[known, TUMOR_REGIONS] == (region[known] == "invasive cancer")).all()
    assert "region.undetermined" not in measured
    adipose = region == "adipose tissue"
    assert measured[STROMA_AND_IMMUNE].isna().equals(adipose)
    sums = section.spots["proportion.T-cells"] + section.spots["proportion.CAFs"]
    assert measured.loc[~adipose, STROMA_AND_IMMUNE].to_numpy() == pytest.approx(sums[~adipose].to_numpy())


def test_a_section_without_annotations_has_signatures_alone() -> None:
    section = make_section()
    bare = replace(section, spots=section.spots[["n_counts", "on_tissue"]])
    assert all(name.startswith(("signature.", "gene.")) for name in measure_spots(bare, TERMS, GROUPS))


def test_every_gene_set_and_word_is_of_some_kind() -> None:
    assert set(TERMS.signatures) == {"tumor", "immune", "stroma"}
    genes = [set(genes) for genes in TERMS.signatures.values()]
    assert not genes[0] & genes[1]
    assert not genes[1] & genes[2]
    assert TERMS.cell_types_of("immune", ["B-cells", "CAFs", "Plasma Cells", "PVL"]) == ["B-cells", "Plasma Cells"]
    assert TERMS.cell_types_of("stroma", ["B-cells", "CAFs", "Endothelial", "PVL"]) == ["CAFs", "Endothelial", "PVL"]
    assert TERMS.region_is("tumor", "Invasive cancer")
    assert not TERMS.region_is("tumor", "connective tissue")
