"""The machine under a training: reproducible numbers, one BLAS thread, freed memory kept, batches sent to a GPU."""

import ctypes
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._functorch import config as functorch

from dml.core.device import torch_threads
from dml.models.nn.blocks import TokenProjection

log = logging.getLogger(__name__)
T = TypeVar("T")

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_MALLOC_SETTINGS = {_MMAP_THRESHOLD: 1 << 25, _TRIM_THRESHOLD: 1 << 30, _TOP_PAD: 1 << 26}


@contextmanager
def reproducible(seed: int, threads: int, precision: str = "float32") -> Iterator[None]:
    """Seed torch, fix its threads and the rounding of its products, and on a GPU ask for deterministic kernels.

    Previous settings come back afterwards. With `precision` medium, factors of float32 products may be rounded to
    bfloat16 (8 bits) where the processor has instructions for it; sums, weights and all else stay float32. The CPU
    kernels used here are deterministic as they are (a test trains twice); asking imports the compiler, 3 s.
    """
    state, on_gpu = torch.get_rng_state(), torch.cuda.is_available()
    rounding = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "medium" else rounding)
    before = torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(seed)
    if on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it products on a GPU raise
        torch.use_deterministic_algorithms(True)
    try:
        with torch_threads(threads):
            yield
    finally:
        if on_gpu:
            torch.use_deterministic_algorithms(before)
        torch.set_float32_matmul_precision(rounding)
        torch.set_rng_state(state)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy's linear algebra compute on one thread: for what is fitted in float64 and written as it is."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def keep_freed_memory() -> bool:
    """Let the C library keep up to 1 GiB of freed memory for the next step; False where it is not glibc.

    By default glibc returns large blocks as soon as they are freed; a step that makes the same temporaries again then
    pays thousands of page faults (10 % and more of a step's time was measured; see docs/benchmarks.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        log.debug("no mallopt here: freed memory goes back to the system at once")
        return False
    return all(mallopt(name, value) == 1 for name, value in _MALLOC_SETTINGS.items())


def compile_projection(model: nn.Module) -> None:
    """Compile in place the projection, which alone passes over every patch token, for bags of any size.

    What follows handles few queries. Coordination asks for gradients through each subspace's embedding, so the graph
    behind the projection must stay open, and a backward pass must not free what it has read.
    """
    functorch.donated_buffer = False
    for module in model.modules():
        if isinstance(module, TokenProjection):
            module.compile(dynamic=True)


def to_device(value: T, device: torch.device) -> T:
    """Copy a tensor, or a dataclass, tuple or mapping of tensors, to a device without waiting for it to arrive.

    A copy from ordinary memory to a GPU waits until it is done; one from pinned memory is queued behind the kernels of
    the step before, so that the next batch is made and sent while the GPU works: no thread has to prefetch.
    """
    return value if device.type == "cpu" else cast(T, _copy_to(value, device))


def _copy_to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        pinned = value.pin_memory() if device.type == "cuda" and value.device.type == "cpu" else value
        return pinned.to(device, non_blocking=True)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: _copy_to(getattr(value, field.name), device) for field in fields(value)})
    if isinstance(value, tuple):
        return tuple(_copy_to(part, device) for part in value)
    if isinstance(value, Mapping):
        return {name: _copy_to(part, device) for name, part in value.items()}
    return value
