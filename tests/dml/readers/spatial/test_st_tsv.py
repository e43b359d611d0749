"""Tables of Spatial Transcriptomics are read as they are published, and refused where they are not that."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from dml.core.errors import InputError
from dml.readers.spatial.spatial_format import fill_slide
from dml.readers.spatial.st_tsv import SpotTables
from tests.spatial_sections import MINIMAL, Section, make_section, write_st


@pytest.fixture
def section() -> Section:
    return make_section()


def spot_tables(**changes: Any) -> SpotTables:
    return SpotTables(**{**MINIMAL["spatial"], **changes})


def rewrite_spots(raw: Path, change: Any) -> None:
    path = raw / "A1_spots.tsv"
    change(pd.read_csv(path, sep="\t")).to_csv(path, sep="\t", index=False)


def test_spots_and_counts_are_those_of_the_files(tmp_path: Path, section: Section) -> None:
    write_st(tmp_path, section)
    read = spot_tables().read_tables(tmp_path, "A1")
    assert list(read.spots["spot_id"]) == section.ids == list(read.spot_ids)
    assert read.genes == section.genes
    assert sparse.issparse(read.counts)
    assert (read.counts.toarray() == section.counts).all()
    np.testing.assert_array_equal(read.spots[["x_px", "y_px"]], section.spots[["pixel_x", "pixel_y"]])
    assert read.spots["on_tissue"].all()


def test_spots_that_are_not_selected_are_off_tissue(tmp_path: Path, section: Section) -> None:
    write_st(tmp_path, section)
    rewrite_spots(tmp_path, lambda spots: spots.assign(selected=[0, *spots["selected"][1:]]))
    assert spot_tables().read_tables(tmp_path, "A1").spots["on_tissue"].tolist() == [
        False,
        *[True] * (len(section.ids) - 1),
    ]


def test_measured_places_are_rounded_for_the_id(tmp_path: Path, section: Section) -> None:
    write_st(tmp_path, section)
    rewrite_spots(tmp_path, lambda spots: spots.assign(x=spots["x"] + 0.041, y=spots["y"] - 0.02))
    read = spot_tables().read_tables(tmp_path, "A1")
    assert list(read.spots["spot_id"]) == section.ids
    assert read.spots["array_x"].iloc[0] == pytest.approx(section.spots["x"].iloc[0] + 0.041)


def test_genes_as_rows_are_read_where_the_description_says_so_and_told_where_not(
    tmp_path: Path, section: Section
) -> None:
    write_st(tmp_path, section)
    path = tmp_path / "A1_counts.tsv.gz"
    pd.read_csv(path, sep="\t", index_col=0).T.to_csv(path, sep="\t")
    read = spot_tables(orientation="genes_as_rows").read_tables(tmp_path, "A1")
    assert (read.counts.toarray() == section.counts).all()
    with pytest.raises(InputError, match=r"its columns are spots .* Say `orientation: genes_as_rows` under `spatial`"):
        spot_tables().read_tables(tmp_path, "A1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.drop(columns="pixel_x"), "no column 'pixel_x'. Did you mean pixel_y"),
        (lambda s: pd.concat([s, s.iloc[:1]]), "repeated spots: 3x2 in rows 2, 74. Each spot has one row"),
        (lambda s: s.assign(pixel_y=[np.nan, *s["pixel_y"][1:]]), "column 'pixel_y' is empty in row 2"),
        (lambda s: s.astype(object).assign(pixel_y=["here", *s["pixel_y"][1:]]), "'pixel_y' holds here in row 2"),
    ],
)
def test_a_wrong_table_of_spots_names_file_row_and_remedy(
    tmp_path: Path, section: Section, change: Any, message: str
) -> None:
    write_st(tmp_path, section)
    rewrite_spots(tmp_path, change)
    with pytest.raises(InputError, match=message) as error:
        spot_tables().read_tables(tmp_path, "A1")
    assert error.value.where.endswith("A1_spots.tsv")


@pytest.mark.parametrize(
    ("cell", "message"), [("", "empty cells in row 3, columns EPCAM"), ("high", "'EPCAM' holds high in row 3")]
)
def test_a_cell_without_a_count_names_row_and_gene(tmp_path: Path, section: Section, cell: str, message: str) -> None:
    write_st(tmp_path, section)
    path = tmp_path / "A1_counts.tsv.gz"
    counts = pd.read_csv(path, sep="\t", index_col=0).astype(object)
    counts.iloc[1, 0] = cell
    counts.to_csv(path, sep="\t")
    with pytest.raises(InputError, match=message):
        spot_tables().read_tables(tmp_path, "A1")


def test_only_the_slide_stands_in_braces() -> None:
    assert fill_slide("s/{slide}/{slide}.tsv", "A1") == "s/A1/A1.tsv"
    with pytest.raises(InputError, match=r"\{section\} is not known"):
        fill_slide("{section}.tsv", "A1")
