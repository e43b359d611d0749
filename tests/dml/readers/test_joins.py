"""Ids that do not match are shown in both spellings, with the change that would make them match."""

import pytest

from dml.readers.joins import match_ids

PATIENTS = [f"TCGA-02-{i:04d}" for i in range(6)]
NUMBERS = [f"{i:03d}" for i in range(1, 9)]


@pytest.mark.parametrize(
    ("left", "right", "named"),
    [
        ([p.replace("-", ".") for p in PATIENTS], PATIENTS, "dots, underscores and blanks are read as dashes"),
        ([p.replace("-", "_") for p in PATIENTS], PATIENTS, "dots, underscores and blanks are read as dashes"),
        ([p.lower() for p in PATIENTS], PATIENTS, "case is ignored"),
        ([p.replace("-", " - ") for p in PATIENTS], PATIENTS, "blanks are removed"),
        ([p + "-01A-11R" for p in PATIENTS], PATIENTS, r"a suffix \(sample or aliquot\) is cut"),
        (PATIENTS, [p + "-01" for p in PATIENTS], r"a suffix \(sample or aliquot\) of the other side is cut"),
        ([str(int(n)) for n in NUMBERS], NUMBERS, "leading zeros are dropped"),
        ([f"{int(n)}.0" for n in NUMBERS], [str(int(n)) for n in NUMBERS], r"decimals \(\.0\) are dropped"),
        ([f"X{n}" for n in NUMBERS], NUMBERS, "the X that R puts before digits is removed"),
        ([p.lower().replace("-", ".") for p in PATIENTS], PATIENTS, "several changes are undone"),
        ([p.replace("-", ".") + ".01A" for p in PATIENTS], PATIENTS, r"a suffix"),
    ],
)
def test_a_spelling_is_recognised(left: list[str], right: list[str], named: str) -> None:
    import re

    join = match_ids("left to right", left, right)
    assert (join.matched, join.share) == (0, 0.0)
    assert re.match(rf"{len(left)} more match if {named}", join.hint), join.hint
    assert left[0] in join.hint
    assert left[0] in join.format_examples()
    assert right[0] in join.format_examples()


def test_what_matches_needs_no_hint() -> None:
    join = match_ids("matrix", [*PATIENTS, "TCGA-99-9999"], PATIENTS[:4])
    assert (join.matched, join.left, join.right, join.share, join.hint) == (4, 7, 4, 1.0, "")
    assert match_ids("none", [], PATIENTS).share == 1.0


def test_samples_of_a_patient_who_matches_already_are_no_other_spelling() -> None:
    assert match_ids("m", ["P1", "P1-b"], ["P1", "P2"]).hint == ""


@pytest.mark.parametrize(
    ("left", "right"),
    [("P\u201301", "P-01"), ("P\u200b01", "P01"), ("\u042001", "P01"), ("P/7", "P-7"), ("patient_7", "7"), ("7", "P7"),
     ("sub-7", "sub7")],
)  # fmt: skip
def test_characters_and_words_that_keep_ids_apart_are_named(left: str, right: str) -> None:
    assert "1 more match" in match_ids("a to b", [left], [right]).hint
