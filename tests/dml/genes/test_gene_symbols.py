"""Ids and names of any age lead to approved symbols, and never two genes into one by guessing."""

import pytest

from dml.cohorts.gene_groups import RESOURCES
from dml.genes.gene_symbols import rename, symbol_table


@pytest.mark.parametrize(
    ("written", "approved"),
    [
        ("TP53", "TP53"),
        ("ENSG00000141510", "TP53"),
        ("ENSG00000141510.18", "TP53"),
        ("ENSG00000182378.15_PAR_Y", "PLCXD1"),
        ("7157", "TP53"),
        ("TP53|7157", "TP53"),
        ("?|7157", "TP53"),
        ("FRAP1", "MTOR"),  # former symbol
        ("MARCH1", "MARCHF1"),  # renamed because spreadsheets made a date of it
        ("HER2", "ERBB2"),  # alias
        ("CD20", "MS4A1"),
        ("NOT_A_GENE", "NOT_A_GENE"),
        ("NEWER|999999999", "NEWER"),
        ("?|999999999", "999999999"),
        ("ENSG00000999999.3", "ENSG00000999999"),
    ],
)
def test_a_name_alone(written: str, approved: str) -> None:
    assert rename([written]).names == [approved]


def test_a_former_symbol_gives_way_to_the_gene_itself() -> None:
    found = rename(["MARCH1", "MARCHF1", "TP53"])
    assert found.names == ["MARCH1", "MARCHF1", "TP53"], "two columns are two measurements"
    assert (found.approved, found.renamed, found.unknown) == (2, 0, 1)


def test_two_former_symbols_of_one_gene_are_left_alone() -> None:
    former = [old for old, new in symbol_table().former.items() if new == "ERBB2"]
    assert len(former) > 1
    assert rename(former[:2]).names == former[:2]


def test_counts_are_logged() -> None:
    assert rename(["EGFR", "ENSG00000141510.2", "XYZ"]).format_line() == (
        "1 approved as written, 1 renamed, 1 unknown to HGNC"
    )


def test_the_table_is_whole_and_unambiguous() -> None:
    known = symbol_table()
    assert len(known.approved) > 20_000
    assert not set(known.former) & known.approved, "an approved symbol is nobody's former name"
    assert set(known.ensembl.values()) | set(known.entrez.values()) == known.approved


def test_every_gene_of_the_shipped_groups_is_approved() -> None:
    import yaml

    content = yaml.safe_load((RESOURCES / "default.yaml").read_text())
    assert [g for g in [*content["tumor"], *content["tme"]] if g not in symbol_table().approved] == []
