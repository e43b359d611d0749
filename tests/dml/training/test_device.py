"""Nothing of a batch stays behind or changes on its way."""

from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

from benchmarks.shapes import make_batch
from dml.core.types import ClassTarget
from dml.training.runtime import to_device
from tests.synthetic import batch


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if is_dataclass(value):
        return [t for field in fields(value) for t in tensors(getattr(value, field.name))]
    if isinstance(value, dict):
        return [t for part in value.values() for t in tensors(part)]
    return [t for part in value for t in tensors(part)] if isinstance(value, tuple) else []


def test_every_tensor_of_a_batch_is_sent_and_the_rest_kept() -> None:
    """The device `meta` holds shapes only, so what was forgotten still has values."""
    ours = batch([(5, 3), (2, 2)], kind="classification")
    assert isinstance(ours.target, ClassTarget)
    ours.auxiliary["idh"] = ours.target  # type: ignore[index]
    there = to_device(ours, torch.device("meta"))
    assert {t.device.type for t in tensors(there)} == {"meta"}
    assert [t.shape for t in tensors(there)] == [t.shape for t in tensors(ours)]
    assert there.patient_ids == ours.patient_ids
    assert [level.mpp for level in there.levels] == [level.mpp for level in ours.levels]
    assert type(there.target) is ClassTarget


def test_on_a_cpu_nothing_is_copied() -> None:
    ours = batch([(5, 3)])
    assert to_device(ours, torch.device("cpu")) is ours


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_what_arrives_is_what_was_sent() -> None:
    ours = make_batch([300, 100, 40])
    there = to_device(ours, torch.device("cuda"))
    torch.cuda.synchronize()
    assert all(torch.equal(a, b.cpu()) for a, b in zip(tensors(ours), tensors(there), strict=True))
