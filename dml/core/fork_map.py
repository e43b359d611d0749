"""Parallel map over forked processes."""

import os
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from dml.core.errors import DmlError

T = TypeVar("T")


def fork_map(work: Callable[[int], T], count: int, workers: int) -> list[T]:
    """Return ``[work(0), ..., work(count - 1)]``, computed by `workers` processes on Linux.

    Forked processes share the memory of the parent, nothing is copied to them, and starting them costs milliseconds.
    Only what `work` returns is pickled. It must not touch a GPU or use more than one thread of torch, since neither
    survives a fork. Elsewhere, and with one worker, the calls are made here, one after the other.

    Raises
    ------
    DmlError
        What the first failing call raised, or that a process died.
    """
    workers = min(workers, count)
    if workers < 2 or sys.platform != "linux":
        return [work(index) for index in range(count)]
    context, parent = get_context("fork"), os.getpid()
    readers: list[Connection] = []
    processes = []
    for worker in range(workers):
        reader, writer = context.Pipe(duplex=False)
        share = range(worker, count, workers)
        processes.append(context.Process(target=_serve, args=(work, share, writer, parent), daemon=True))
        processes[-1].start()
        writer.close()
        readers.append(reader)
    try:
        results: list[T] = _collect(readers, count)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return results


def _serve(work: Callable[[int], T], share: range, writer: Connection, parent: int) -> None:
    for index in share:
        if os.getppid() != parent:  # the parent was killed
            return
        try:
            writer.send((index, work(index)))
        except DmlError as error:
            writer.send((index, error))
            return


def _collect(readers: list[Connection], count: int) -> list[T]:
    results: dict[int, T] = {}
    while len(results) < count:
        for reader in wait(readers):
            assert isinstance(reader, Connection)
            try:
                index, result = reader.recv()
            except EOFError:
                if len(results) < count and len(readers) == 1:
                    raise DmlError(
                        "a training process died, its error is above; if memory ran out: optimisation.workers: 1"
                    ) from None
                readers.remove(reader)
                continue
            if isinstance(result, DmlError):
                raise result
            results[index] = result
    return [results[index] for index in range(count)]
