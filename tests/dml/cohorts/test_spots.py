"""Spots of a cohort: read, named, annotated, stacked, written and read back."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from dml.cohorts.description import CohortDescription
from dml.cohorts.spot_store import SpotTable, empty_spots, read_spots, stack_spots, write_spots
from dml.cohorts.spots import build_spots
from dml.cohorts.stores import build_cohort
from dml.config.params import parse
from dml.core.errors import ConfigError, InputError
from tests.spatial_sections import GENES, MINIMAL, MPP, make_section, write_st


def describe(raw: Path, **changes: Any) -> CohortDescription:
    """The smallest description; a change of `spatial` is merged into it."""
    content = {**MINIMAL, "raw": str(raw), **changes, "spatial": {**MINIMAL["spatial"], **changes.get("spatial", {})}}
    description: CohortDescription = parse(CohortDescription, content, "small.yaml")
    return description


def test_one_image_one_table_of_spots_one_of_counts_become_a_cohort(tmp_path: Path) -> None:
    section = make_section()
    write_st(tmp_path, section)
    description = describe(tmp_path)
    table = build_spots(description)
    assert table.sections == ("A1",)
    assert set(table.spots["patient_id"]) == {"P1"}
    assert table.genes == tuple(sorted(GENES))
    np.testing.assert_array_equal(table.spots["n_counts"], section.counts.sum(axis=1))
    np.testing.assert_array_equal(table.spots["n_genes"], (section.counts > 0).sum(axis=1))
    columns = [table.genes.index(gene) for gene in GENES]
    assert (table.counts[:, columns].toarray() == section.counts).all()
    cohort = build_cohort(description, table.spots)
    assert cohort.patients["patient_id"].tolist() == ["P1"]
    assert cohort.slides["mpp"].tolist() == pytest.approx([MPP], rel=1e-6)


def test_what_is_written_is_read_back_without_becoming_dense(tmp_path: Path) -> None:
    for seed, slide in enumerate(("A1", "A2")):
        write_st(tmp_path, make_section(seed), slide)
    table = build_spots(describe(tmp_path))
    write_spots(tmp_path / "store", table)
    again = read_spots(tmp_path / "store")
    pd.testing.assert_frame_equal(table.spots[list(again.spots)], again.spots)
    assert sparse.issparse(again.counts)
    assert (again.counts != table.counts).nnz == 0
    assert (again.genes, again.spacing_um, again.spot_diameter_um) == (table.genes, 200.0, 100.0)
    second = again.section("A2")
    assert (second.counts.toarray() == build_spots(describe(tmp_path)).section("A2").counts.toarray()).all()
    assert set(second.spots["section_id"]) == {"A2"}
    with pytest.raises(KeyError):
        again.section("A3")


def test_a_cohort_without_spatial_expression_has_tables_without_rows(tmp_path: Path) -> None:
    plain = parse(CohortDescription, {"name": "plain", "patients": [{"file": "p.csv", "id": "id"}]}, "plain.yaml")
    write_spots(tmp_path, build_spots(plain))
    table = read_spots(tmp_path)
    assert (len(table.spots), table.counts.shape, table.genes) == (0, (0, 0), ())
    assert np.isnan(table.spacing_um)
    assert list(table.spots) == list(empty_spots().spots)


def test_genes_of_one_name_are_summed_and_genes_of_one_section_only_are_zero_elsewhere() -> None:
    def part(genes: tuple[str, ...], counts: list[list[float]]) -> SpotTable:
        spots = empty_spots().spots.reindex(range(len(counts)))
        return SpotTable(spots, sparse.csr_matrix(counts), genes, 200.0, 100.0)

    table = stack_spots([part(("B", "A", "B"), [[1, 2, 4]]), part(("C",), [[8]])])
    assert table.genes == ("A", "B", "C")
    assert table.counts.toarray().tolist() == [[2, 5, 0], [0, 0, 8]]


def test_annotations_are_joined_by_spot_and_unknown_where_they_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    section = make_section()
    write_st(tmp_path, section)
    ids = section.ids
    regions = pd.DataFrame({"section": "A1", "spot": ids[1:], "region": "tumor"})
    regions.loc[0, "region"] = "fat"
    pd.concat([regions, regions.assign(section="B1", region="stroma")]).to_csv(
        tmp_path / "r.tsv", sep="\t", index=False
    )
    shares = pd.DataFrame({"T cells": 0.25, "Epithelial": 0.75}, index=ids[:-1])
    shares.to_csv(tmp_path / "A1-p.tsv", sep="\t")
    annotations = {
        "region": {"file": "r.tsv", "section": "section"},
        "proportions": {"file": "{slide}-p.tsv", "unknown_in": ["fat"]},
    }
    with caplog.at_level(logging.WARNING):
        table = build_spots(describe(tmp_path, spatial={"annotations": annotations}))
    regions_read = table.spots.set_index("spot_id")["region"]
    assert pd.isna(regions_read[ids[0]])
    assert regions_read[ids[1:]].tolist() == ["fat", *["tumor"] * (len(ids) - 2)]
    assert table.cell_types == ("T cells", "Epithelial")
    known = table.spots["proportion.T cells"]
    assert known.isna().tolist() == [False, True, *[False] * (len(ids) - 3), True], (
        "fat, and the last that is not there"
    )
    assert set(known.dropna()) == {0.25}
    assert (
        "A1-p.tsv: 1 of 71 spots are not in it" in caplog.text or f"1 of {len(ids)} spots are not in it" in caplog.text
    )
    write_spots(tmp_path / "store", table)
    assert read_spots(tmp_path / "store").spots["region"].isna().sum() == 1


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("spot\tT\n99x99\t0.5\n", "none of its 1 spots is one of the section's"),
        ("spot\tT\n3x2\t1.5\n", "shares of cells below 0 or above 1 in row 2"),
        ("spot\tT\n3x2\t0.5\n3x2\t0.5\n", "repeated spots: 3x2 in rows 2, 3"),
    ],
)
def test_wrong_proportions_name_file_and_row(tmp_path: Path, file: str, message: str) -> None:
    write_st(tmp_path, make_section())
    (tmp_path / "p.tsv").write_text(file)
    with pytest.raises(InputError, match=message):
        build_spots(describe(tmp_path, spatial={"annotations": {"proportions": {"file": "p.tsv"}}}))


def test_ensembl_ids_are_refused_or_mapped_by_the_shipped_table(tmp_path: Path) -> None:
    section = make_section()
    known = {"ENSG00000119888": "EPCAM", "ENSG00000198851": "CD3E", "ENSG00000108821": "COL1A1"}
    section.genes = tuple(known)
    section.counts = section.counts[:, :3]
    write_st(tmp_path, section)
    with pytest.raises(InputError, match=r"its genes are Ensembl ids: ENSG00000119888, .*`symbols: approved`"):
        build_spots(describe(tmp_path))
    assert build_spots(describe(tmp_path, spatial={"symbols": "approved"})).genes == tuple(sorted(known.values()))


def test_counts_of_another_section_stop_the_cohort(tmp_path: Path) -> None:
    section = make_section()
    write_st(tmp_path, section)
    other = make_section(1)
    other.spots = other.spots.assign(x=other.spots["x"] + 30)
    counts = pd.DataFrame(other.counts, index=other.ids, columns=list(GENES))
    counts.to_csv(tmp_path / "A1_counts.tsv.gz", sep="\t")
    with pytest.raises(InputError, match=r"0 of \d+ spots of .*A1_spots.tsv are among its \d+ rows.*another section"):
        build_spots(describe(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial": {"format": "xenium"}}, "`format` must be one of anndata, spatialdata, st_tsv, visium"),
        ({"spatial": {"spacing_um": 50}}, r"spot_diameter_um \(100\) is above spacing_um \(50\)"),
        ({"slides": None}, "spots lie on slides"),
        ({"slides": {"folder": {"folder": "images"}}}, "give either `patient`.*or `patient_id`"),
        ({"spatial": {"annotations": {"proportions": {"file": "p", "unknown_in": ["fat"]}}}}, "`region` is needed"),
    ],
)
def test_a_wrong_description_names_the_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        describe(tmp_path, **changes)


def test_stores_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_st(tmp_path, make_section())
    table = build_spots(describe(tmp_path))
    write_spots(tmp_path / "whole", table)
    rows = SpotTable(table.spots.iloc[:5], table.counts[:5], table.genes, 200.0, 100.0)
    write_spots(tmp_path / "part", rows)
    (tmp_path / "whole/spots.parquet").write_bytes((tmp_path / "part/spots.parquet").read_bytes())
    with pytest.raises(
        InputError, match=r"spots or genes that spots\.parquet has not\. Delete it and run: dvc repro spots"
    ):
        read_spots(tmp_path / "whole")
