"""Spots and counts are matched by id; what are no raw counts of this section is refused, what is left out is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from dml.core.errors import InputError
from dml.readers.spatial.section_checks import align_section, check_counts, check_symbols
from dml.readers.spatial.spatial_format import SpatialSection


def section(n: int = 10, seed: int = 0) -> SpatialSection:
    ids = tuple(f"{i}x{i % 3}" for i in range(n))
    counts = sparse.csr_matrix(np.random.default_rng(seed).poisson(3.0, (n, 4)) + 1.0)
    spots = pd.DataFrame({"spot_id": ids, "on_tissue": True})
    return SpatialSection(spots, ids, counts, ("A", "B", "C", "D"), Path("counts.tsv"), Path("spots.tsv"))


def with_ids(given: SpatialSection, ids: list[str]) -> SpatialSection:
    return replace(given, spot_ids=tuple(ids))


def test_counts_in_another_order_are_brought_into_that_of_the_spots() -> None:
    given = section()
    order = np.random.default_rng(1).permutation(10)
    shuffled = replace(given, spot_ids=tuple(np.array(given.spot_ids)[order]), counts=given.counts[order])
    aligned = align_section(shuffled, 0.8)
    assert aligned.spot_ids == given.spot_ids
    assert (aligned.counts != given.counts).nnz == 0


def test_a_few_spots_of_one_side_only_are_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    given = section()
    aligned = align_section(with_ids(given, [*given.spot_ids[:9], "77x7"]), 0.8)
    assert aligned.spot_ids == given.spot_ids[:9]
    assert aligned.counts.shape == (9, 4)
    assert "spots.tsv: 1 of 10 spots have no counts and are left out: 9x0" in caplog.text
    assert "counts.tsv: 1 of 10 rows are of no spot and are left out: 77x7" in caplog.text


def test_counts_of_another_section_are_refused_with_matched_and_both_spellings() -> None:
    given = section()
    other = with_ids(given, [*given.spot_ids[:3], *(f"{i}x9" for i in range(7))])
    with pytest.raises(InputError) as error:
        align_section(other, 0.8)
    assert str(error.value) == (
        "counts.tsv: 3 of 10 spots of spots.tsv are among its 10 rows; without partner: 3x0, 4x1, 5x2 (+2 more) | "
        "0x9, 1x9, 2x9 (+2 more). Are these the counts of another section? Else correct the ids, or lower "
        "spatial.min_matched"
    )
    assert len(align_section(other, 0.3).spot_ids) == 3


def test_another_spelling_of_the_ids_is_named() -> None:
    given = section()
    with pytest.raises(
        InputError, match=r"0 of 10 spots.*\(10 more match if the X that R puts before digits is removed"
    ):
        align_section(with_ids(given, [f"X{name}" for name in given.spot_ids]), 0.8)


def test_spots_without_a_count_are_left_out_and_told_and_refused_where_they_are_most(
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = section()
    few, most = given.counts.tolil(), given.counts.tolil()
    few[4], most[:6] = 0, 0
    aligned = align_section(replace(given, counts=few.tocsr()), 0.8)
    assert "4x1" not in aligned.spot_ids
    assert len(aligned.spot_ids) == aligned.counts.shape[0] == 9
    assert "counts.tsv: 1 spot (4x1) left out, without a count" in caplog.text
    with pytest.raises(InputError, match="6 of 10 spots have no count at all: 0x0, 1x1, 2x2, 3x0, 4x1"):
        align_section(replace(given, counts=most.tocsr()), 0.8)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-2.0, "1 cell is (first: spot 3x0, gene C: -2) negative. Give raw counts, not values that were scaled"),
        (2.5, "no counts: 1 cell is (first: spot 3x0, gene C: 2.5) not whole numbers. Give raw counts"),
        (np.nan, "1 cell is (first: spot 3x0, gene C: nan) not finite. Export the raw counts again"),
    ],
)
def test_a_cell_that_is_no_count_names_spot_and_gene(value: float, message: str) -> None:
    counts = section().counts.tolil()
    counts[3, 2] = value
    with pytest.raises(InputError) as error:
        check_counts(replace(section(), counts=counts.tocsr()))
    assert f"counts.tsv: {message}" in str(error.value)


def test_logarithms_and_normalised_counts_are_called_what_they_are() -> None:
    given = section()
    with pytest.raises(
        InputError, match=r"logarithms, not counts: 40 cells are \(first: spot 0x0, gene A: .* largest is"
    ):
        check_counts(replace(given, counts=given.counts.log1p()))
    with pytest.raises(
        InputError, match=r"no counts: .* not whole numbers. Give raw counts, neither normalised nor logged"
    ):
        check_counts(replace(given, counts=sparse.csr_matrix(given.counts.multiply(1e4 / 37))))


def test_ensembl_ids_are_refused_with_the_setting_that_maps_them() -> None:
    check_symbols("counts.tsv", ["EPCAM", "CD3E", "ENSG00000012048"])
    with pytest.raises(InputError) as error:
        check_symbols("counts.tsv", ["ENSG00000012048.3", "ENSMUSG00000012048", "EPCAM"])
    assert str(error.value) == (
        "counts.tsv: its genes are Ensembl ids: ENSG00000012048.3, ENSMUSG00000012048. Say `symbols: approved` under "
        "`spatial`: ids become HGNC symbols; or give a table with symbols"
    )
