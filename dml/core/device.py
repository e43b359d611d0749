"""Where torch computes: the device a parameter names, and the number of CPU threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dml.core.errors import ConfigError

if TYPE_CHECKING:  # imported where it is used: tiling has executors and no network
    import torch


def resolve_device(name: str, parameter: str = "optimisation.device") -> torch.device:
    """Turn ``auto`` into ``cuda`` where there is a GPU, else ``cpu``; any other name into that device.

    Parameters
    ----------
    name : str
        ``auto``, or a device of PyTorch: ``cpu``, ``cuda``, ``cuda:1``.
    parameter : str
        Where the name comes from, for the message.

    Raises
    ------
    ConfigError
        If there is no such device.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    device = parse_device(name, parameter)
    if device.type == "cuda" and not gpus:
        raise ConfigError(f"{parameter}: {name} is asked for, but PyTorch sees no CUDA device; allowed: auto, cpu")
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ConfigError(f"{parameter}: {name} is asked for, but PyTorch sees {gpus} CUDA devices, numbered from 0")
    return device


def parse_device(name: str, parameter: str) -> torch.device:
    """Return the device that a name means, whether it is here or on another machine.

    Raises
    ------
    ConfigError
        If it is neither a CPU nor a CUDA device.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"{parameter}: {name!r} is no device to compute on here; allowed: auto, cpu, cuda, cuda:0")
    return device


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute on so many CPU threads, then on as many as before.

    Sums depend on how many threads share them; with a fixed count they are the same to the bit on every machine.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
