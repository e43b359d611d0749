"""A piece of work in a process of its own, so that its memory is measured alone and is given back."""

import ctypes
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection

from dml.core.errors import DmlError


def run_apart(work: Callable[[], None]) -> None:
    """Do some work in a forked process and wait for it; elsewhere than on Linux, here.

    The work may start processes of its own. Nothing is copied to it, and what it returns is lost: it writes files.

    Raises
    ------
    DmlError
        What the work raised, or that its process died.
    """
    if sys.platform != "linux":
        work()
        return
    context = get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(work, writer))
    process.start()
    writer.close()
    try:
        failed = reader.recv() if reader.poll(None) else None
    except EOFError:
        process.join()
        raise DmlError(
            f"a training process died (exit code {process.exitcode}), its error is above; if memory ran out: "
            "optimisation.workers: 1"
        ) from None
    finally:
        reader.close()
    process.join()
    if failed is not None:
        raise failed


def _serve(work: Callable[[], None], writer: Connection) -> None:
    _end_with_parent()
    try:
        work()
    except DmlError as error:
        writer.send(error)
    else:
        writer.send(None)


def _end_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it is killed."""
    set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
