"""Freed memory is kept where the C library can, and asking twice is harmless."""

import ctypes
import resource

import pytest
import torch

from dml.training.runtime import keep_freed_memory


def test_the_same_temporaries_again_cost_no_page_faults() -> None:
    if not keep_freed_memory():
        pytest.skip("the C library has no mallopt")
    for _ in range(3):
        torch.ones(2_000_000).sum()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2_000_000).sum()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 2_000  # 20 x 2,000 pages without


def test_a_c_library_without_mallopt_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert keep_freed_memory() is False
