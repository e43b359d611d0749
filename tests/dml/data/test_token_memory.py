"""A cohort that memory does not hold is read from a mapped file: the same tokens, and nothing left on the disk."""

import logging
from pathlib import Path

import pytest
import torch

from dml.core.errors import InputError
from dml.data import token_memory as shelf
from dml.data.token_memory import Shelf, available, shelved
from tests.synthetic import cohort

COHORT = cohort(6)
PYRAMIDS = {case.patient_id: case.bags for case in COHORT.cases}
TOKENS = sum(len(bag) for pyramid in PYRAMIDS.values() for bag in pyramid.values())


def test_what_fits_stays_in_memory(tmp_path: Path) -> None:
    kept = shelved(PYRAMIDS.items(), TOKENS, tmp_path)
    assert all(kept[patient] is pyramid for patient, pyramid in PYRAMIDS.items())


def test_what_does_not_fit_is_the_same_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shelf, "available", lambda: 100)
    with caplog.at_level(logging.INFO):
        kept = shelved(PYRAMIDS.items(), TOKENS, tmp_path)
    assert "read from disk" in caplog.text
    places = set()
    for patient, pyramid in PYRAMIDS.items():
        for mpp, bag in pyramid.items():
            ours = kept[patient][mpp]
            assert torch.equal(ours.tokens, bag.tokens)
            assert ours.coords_um is bag.coords_um
            places.add(ours.tokens.untyped_storage().data_ptr())
    assert len(places) == 1, "one file holds all"
    assert list(tmp_path.iterdir()) == [], "the file is already deleted"


def test_no_room_on_the_disk_either(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fit neither in memory nor on this disk .*lower tiles\.max_tiles"):
        Shelf(1 << 60, tmp_path)


def test_patients_without_slides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "available", lambda: 0)
    assert shelved([("P", {})], 0, tmp_path) == {"P": {}}


def test_available_memory_is_less_than_the_machine_has() -> None:
    import os

    assert 0 < available() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
