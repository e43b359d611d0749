"""Executors: run a task over slides in threads of this process, or as tasks on a Ray cluster, with the same bits.

A task is a function of some slides. `LocalExecutor` calls it once, with all of them. `RayExecutor` makes a Ray task of
each, which Ray starts again if its process or machine dies. The task itself writes finished slides to .work, so none is
lost when a worker or the driver is killed.

On a cluster every machine sees the repository under the same path and has this package, weights included, installed.
"""

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from dml.config.params import Scale
from dml.core.device import parse_device, resolve_device
from dml.core.errors import ConfigError, DmlError
from dml.core.progress import Advance

Item = TypeVar("Item")
Result = TypeVar("Result")

Run = Callable[[Sequence[Item], int, Advance], list[Result]]

IN_FLIGHT = 1000
"""Maximum number of Ray tasks in flight."""


@dataclass(frozen=True, slots=True)
class ParallelTask(Generic[Item, Result]):
    """A function of items, and what an executor has to know about it.

    Attributes
    ----------
    run : callable
        (items, threads, advance) -> one result per item. On Ray it is pickled, and called in the folder of the driver.
    size : callable
        Units of progress in an item.
    on_failure : callable
        (item, reason) -> the result of an item whose process died every time.
    threads : int
        Of this process; on Ray each task has one core, or as many as this if it has a GPU to feed.
    gpu : bool
        Whether a Ray task needs a GPU.
    """

    run: Run[Item, Result]
    size: Callable[[Item], int]
    on_failure: Callable[[Item, str], Result]
    threads: int
    gpu: bool = False


class Executor(Protocol):
    """Runs a task over items."""

    def device(self, wanted: str) -> str:
        """Resolve ``auto`` to the device that tasks run on."""
        ...

    def map(self, task: ParallelTask[Item, Result], items: Sequence[Item], advance: Advance) -> list[Result]:
        """Return the results in the order of the items."""
        ...


class LocalExecutor:
    """Threads of this process."""

    def device(self, wanted: str) -> str:
        """See `Executor`."""
        return str(resolve_device(wanted, "embed.device"))

    def map(self, task: ParallelTask[Item, Result], items: Sequence[Item], advance: Advance) -> list[Result]:
        """See `Executor`."""
        return task.run(items, task.threads, advance)


class RayExecutor:
    """Tasks on the Ray cluster this process is connected to."""

    def __init__(self, retries: int = 3) -> None:
        self._retries = retries

    def device(self, wanted: str) -> str:
        """See `Executor`; ``auto`` is ``cuda`` if a machine of the cluster has a GPU."""
        has_gpu = import_ray().cluster_resources().get("GPU", 0) > 0
        if wanted == "auto":
            return "cuda" if has_gpu else "cpu"
        device = parse_device(wanted, "embed.device")
        if device.type == "cuda" and not has_gpu:
            raise ConfigError(f"embed.device: {wanted} is set, but no machine of the Ray cluster has a GPU")
        return str(device)

    def map(self, task: ParallelTask[Item, Result], items: Sequence[Item], advance: Advance) -> list[Result]:
        """See `Executor`.

        Raises
        ------
        DmlError
            What a task raised, or that the cluster is gone.
        """
        ray = import_ray()
        cores = task.threads if task.gpu else 1
        remote = ray.remote(_run_alone).options(
            num_cpus=cores, num_gpus=int(task.gpu), max_retries=self._retries, scheduling_strategy="SPREAD"
        )
        here, run = str(Path.cwd()), ray.put(task.run)
        waiting = deque(enumerate(items))
        running: dict[Any, int] = {}
        results: dict[int, Result] = {}
        while waiting or running:
            while waiting and len(running) < IN_FLIGHT:
                index, item = waiting.popleft()
                running[remote.remote(here, run, item, cores)] = index
            for reference in ray.wait(list(running))[0]:
                index = running.pop(reference)
                results[index] = self._result(reference, task, items[index])
                advance(task.size(items[index]))
        return [results[index] for index in range(len(items))]

    def _result(self, reference: Any, task: ParallelTask[Item, Result], item: Item) -> Result:
        from ray import exceptions

        try:
            result: Result = import_ray().get(reference)
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.NodeDiedError) as error:
            return task.on_failure(item, f"its process died {self._retries + 1} times ({type(error).__name__})")
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, DmlError):
                raise error.cause from None
            raise
        except exceptions.RayError as error:
            reason = str(error).splitlines()[0]
            raise DmlError(f"Ray: {reason}. Finished slides are kept: run the stage again") from error
        return result


def _run_alone(folder: str, run: Run[Item, Result], item: Item, threads: int) -> Result:
    """Run a task on one item, in a worker process of Ray."""
    with contextlib.chdir(folder):
        return run([item], threads, lambda _: None)[0]


@contextlib.contextmanager
def open_executor(settings: Scale, workers: int) -> Iterator[Executor]:
    """Yield the executor of params.yaml; a cluster that was started for it is shut down afterwards.

    Parameters
    ----------
    settings : config.Scale
        Engine, and the address of its cluster; without one RAY_ADDRESS counts, and without that Ray starts on this
        machine with `workers` cores.
    workers : int
        Tasks at a time on this machine.

    Raises
    ------
    ConfigError
        If Ray is set and not installed, or no cluster answers.
    """
    if settings.engine == "local":
        yield LocalExecutor()
        return
    ray = import_ray()
    connected = ray.is_initialized()
    if not connected:
        _connect(ray, settings.address or os.environ.get("RAY_ADDRESS") or "local", workers)
    try:
        yield RayExecutor(settings.retries)
    finally:
        if not connected:
            ray.shutdown()


def import_ray() -> ModuleType:
    """Import Ray, without its usage reports."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a task without a GPU sees none
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "scale.engine: ray is not installed here: pip install -e '.[ray]' -c constraints.txt"
        ) from None
    module: ModuleType = ray
    return module


def _connect(ray: ModuleType, address: str, workers: int) -> None:
    options = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: on a busy machine that is hardly any time
    try:
        _check_reachable(address)
        ray.init(address=address, logging_level="error", **options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        remedy = "Start one with `ray start --head`, correct scale.address or RAY_ADDRESS, or set scale.engine: local"
        raise ConfigError(f"scale.engine: no Ray cluster at {address} ({reason}). {remedy}") from None


def _check_reachable(address: str) -> None:
    """Raise OSError if nobody listens there, or ValueError if it is no address: Ray itself tries for minutes."""
    if address not in ("local", "auto"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()
