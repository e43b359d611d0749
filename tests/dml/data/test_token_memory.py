"""A cohort that memory does not hold is read from a mapped file: the same tokens, and nothing left on the disk."""

import logging
from pathlib import Path

import pytest
import torch

from dml.core.errors import InputError
from dml.data.token_memory import TokenMemmap, available_memory, load_or_memmap
from tests.synthetic import cohort

COHORT = cohort(6)
BAGS = {case.patient_id: case.bags for case in COHORT.cases}
TOKENS = sum(len(bag) for scales in BAGS.values() for bag in scales.values())


def test_what_fits_stays_in_memory(tmp_path: Path) -> None:
    loaded = load_or_memmap(BAGS.items(), TOKENS, tmp_path)
    assert all(loaded[patient] is scales for patient, scales in BAGS.items())


def test_what_does_not_fit_is_the_same_tokens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        loaded = load_or_memmap(BAGS.items(), TOKENS, tmp_path, memory=100)
    assert "read from disk" in caplog.text
    storages = set()
    for patient, scales in BAGS.items():
        for mpp, bag in scales.items():
            mapped = loaded[patient][mpp]
            assert torch.equal(mapped.tokens, bag.tokens)
            assert mapped.coords_um is bag.coords_um
            storages.add(mapped.tokens.untyped_storage().data_ptr())
    assert len(storages) == 1, "one file holds all"
    assert list(tmp_path.iterdir()) == [], "the file is already deleted"


def test_no_room_on_the_disk_either(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fit neither in memory nor on this disk .*lower tiles\.max_tiles"):
        TokenMemmap(1 << 60, tmp_path)


def test_patients_without_slides(tmp_path: Path) -> None:
    assert load_or_memmap([("P", {})], 0, tmp_path, memory=0) == {"P": {}}


def test_available_memory_is_less_than_the_machine_has() -> None:
    import os

    assert 0 < available_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
