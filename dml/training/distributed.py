"""Data-parallel training: each process computes some micro-batches of a step, and their gradients are summed.

Lightning Fabric starts and connects the processes. A step on n devices is the step of `optimisation.max_tokens` whose
micro-batches are computed side by side. Gradients are reduced by hand, once a step: their coordination needs them
before they are accumulated, where distributed data parallel would already send them.
"""

import logging
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from dml.core.errors import ConfigError, DmlError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")
_RESULT, _ERROR = "result", "error-"
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking whether there is a GPU must not prevent forking


class SingleProcess:
    """Training in one process: collective operations do nothing."""

    rank, size = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their sum over processes; a parameter without gradient counts as zero."""

    def all_reduce_sum(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Sum metrics by name over processes, those that only some have too."""
        return dict(metrics)

    def broadcast(self, value: float) -> float:
        """Broadcast the value of rank 0 to all ranks."""
        return value


class ProcessGroup(SingleProcess):
    """One of several processes that train one model together."""

    def __init__(self, fabric: "Fabric") -> None:
        super().__init__(fabric.device)
        self._fabric, self.rank, self.size = fabric, fabric.global_rank, fabric.world_size

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum in one message."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        for parameter, part in zip(parameters, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            parameter.grad = part.view_as(parameter)

    def all_reduce_sum(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Gather the metrics of all processes and sum them."""
        gathered: list[dict[str, float]] = [{} for _ in range(self.size)]
        distributed.all_gather_object(gathered, dict(metrics))
        names = {name: None for one in gathered for name in one}
        return {name: sum(one.get(name, 0.0) for one in gathered) for name in names}

    def broadcast(self, value: float) -> float:
        """Broadcast through Fabric."""
        return float(self._fabric.broadcast(value))


def launch(work: Callable[[SingleProcess], T], size: int, device: torch.device) -> T:
    """Run work in as many processes as there are devices, and return the result of rank 0.

    Processes are forked, so that the tokens of a cohort are not copied; this process must not have used a GPU before.

    Parameters
    ----------
    work : callable
        From a process of the group to a result, which must be picklable at rank 0.
    size : int
        Number of processes: GPUs on ``cuda``, else processes of the CPU.

    Raises
    ------
    ConfigError
        If there are not as many GPUs, no Lightning Fabric, or no way to fork.
    """
    if sys.platform != "linux":
        raise ConfigError("optimisation.devices above 1 needs Linux: processes are forked")
    if device.type == "cuda" and size > (available := torch.cuda.device_count()):
        raise ConfigError(f"optimisation.devices: {size}, but this machine has {available}")
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise ConfigError(
            "optimisation.devices above 1 needs Lightning Fabric: pip install -e '.[devices]' -c constraints.txt"
        ) from None
    fabric = Fabric(accelerator=device.type, devices=size, strategy="ddp_fork")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            fabric.launch(partial(_run_rank, work=work, folder=folder))
        except (ProcessRaisedException, ProcessExitedException) as error:
            for path in sorted(folder.glob(f"{_ERROR}*")):
                raise pickle.loads(path.read_bytes()) from None
            raise DmlError(f"a process of {size} that trained together died: {error}") from error
        result: T = pickle.loads((folder / _RESULT).read_bytes())
    return result


def _run_rank(fabric: "Fabric", work: Callable[[SingleProcess], T], folder: Path) -> None:
    """Leave the result in a file: Fabric's own return channel is a pipe that blocks on more than 64 KiB."""
    if fabric.global_rank:  # messages that are the same on all ranks are logged once
        logging.getLogger("dml").setLevel(logging.WARNING)
    try:
        result = work(ProcessGroup(fabric))
    except DmlError as error:
        (folder / f"{_ERROR}{fabric.global_rank}").write_bytes(pickle.dumps(error))
        raise
    if not fabric.global_rank:
        (folder / _RESULT).write_bytes(pickle.dumps(result))
