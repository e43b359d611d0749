"""Send a batch to where the model is, without waiting for it to arrive.

A copy from ordinary memory to a GPU waits until it is done; one from pinned memory is queued behind the kernels of the
step before, so that the next batch is made and sent while the GPU works: no thread has to prefetch.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


def sent(value: T, device: torch.device) -> T:
    """Return the same on a device: a tensor, or a dataclass, tuple or mapping that holds some; others as they are."""
    if device.type == "cpu":
        return value
    return cast(T, _sent(value, device))


def _sent(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        pinned = value.pin_memory() if device.type == "cuda" and value.device.type == "cpu" else value
        return pinned.to(device, non_blocking=True)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: _sent(getattr(value, field.name), device) for field in fields(value)})
    if isinstance(value, tuple):
        return tuple(_sent(part, device) for part in value)
    if isinstance(value, Mapping):
        return {name: _sent(part, device) for name, part in value.items()}
    return value
