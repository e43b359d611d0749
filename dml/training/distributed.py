"""Several devices on one model: each process learns some passes of a step, and their gradients are added up.

Lightning Fabric starts the processes and connects them. Nothing else differs from training alone: a step on n devices
is the step of `optimisation.max_tokens` whose passes are done side by side. Gradients are added by hand, once a step,
since their coordination needs them before they are accumulated, where distributed data parallel would already send.
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
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking whether there is a GPU must not spoil forking


class SingleProcess:
    """One process of those that train a model; this one is alone."""

    rank, size = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace the gradients of all by their sum; a parameter that nobody's loss reaches counts as zero."""

    def summed(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Add up figures by name, those that only some have too."""
        return dict(figures)

    def agreed(self, figure: float) -> float:
        """Return what the first has, so that all decide alike."""
        return figure


class ProcessGroup(SingleProcess):
    """One of several."""

    def __init__(self, fabric: "Fabric") -> None:
        super().__init__(fabric.device)
        self._fabric, self.rank, self.size = fabric, fabric.global_rank, fabric.world_size

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up in one message."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(joined)
        for parameter, part in zip(parameters, torch.split(joined, [g.numel() for g in gradients]), strict=True):
            parameter.grad = part.view_as(parameter)

    def summed(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Ask all."""
        found: list[dict[str, float]] = [{} for _ in range(self.size)]
        distributed.all_gather_object(found, dict(figures))
        return {name: sum(own.get(name, 0.0) for own in found) for name in {n: None for own in found for n in own}}

    def agreed(self, figure: float) -> float:
        """Take the first's."""
        return float(self._fabric.broadcast(figure))


def launch(work: Callable[[SingleProcess], T], size: int, device: torch.device) -> T:
    """Do work in as many processes as there are devices, and return what the first returned.

    They are forked, so that the tokens of a cohort are not copied; this process must not have used a GPU before.

    Parameters
    ----------
    work : callable
        Given the team; the first's result must be picklable.
    size : int
        Processes: GPUs on ``cuda``, else processes of the CPU.

    Raises
    ------
    ConfigError
        If there are not as many GPUs, no Lightning Fabric, or no way to fork.
    """
    if sys.platform != "linux":
        raise ConfigError("optimisation.devices above 1 needs Linux: processes are forked")
    if device.type == "cuda" and size > (there := torch.cuda.device_count()):
        raise ConfigError(f"optimisation.devices: {size}, but this machine has {there}")
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise ConfigError(
            "optimisation.devices above 1 needs Lightning Fabric: pip install -e '.[devices]' -c constraints.txt"
        ) from None
    fabric = Fabric(accelerator=device.type, devices=size, strategy="ddp_fork")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        try:
            fabric.launch(partial(_member_of_team, work=work, place=place))
        except (ProcessRaisedException, ProcessExitedException) as error:
            for told in sorted(place.glob(f"{_ERROR}*")):
                raise pickle.loads(told.read_bytes()) from None
            raise DmlError(f"a process of {size} that trained together died: {error}") from error
        result: T = pickle.loads((place / _RESULT).read_bytes())
    return result


def _member_of_team(fabric: "Fabric", work: Callable[[SingleProcess], T], place: Path) -> None:
    """Leave what came out in a file: Fabric's own way back is a pipe that blocks on more than 64 KiB."""
    if fabric.global_rank:  # what all would say alike is said once
        logging.getLogger("dml").setLevel(logging.WARNING)
    try:
        found = work(ProcessGroup(fabric))
    except DmlError as error:
        (place / f"{_ERROR}{fabric.global_rank}").write_bytes(pickle.dumps(error))
        raise
    if not fabric.global_rank:
        (place / _RESULT).write_bytes(pickle.dumps(found))
