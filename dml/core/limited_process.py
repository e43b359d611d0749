"""Run a function in a process of its own with limits on memory and time: a file cannot take this one down with it.

For libraries in C that cannot be bounded otherwise: OpenSlide, libtiff, HDF5, Arrow. A crash, an endless loop or memory
beyond the limit becomes an `InputError` that names the file. Processes are kept for the next call.
"""

import atexit
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection as connections
from multiprocessing.connection import Connection
from pathlib import Path
from pickle import PicklingError
from typing import Any, TypeVar

from dml.core.errors import InputError
from dml.core.limits import current

Result = TypeVar("Result")
_REMEDY = "Is the file damaged? Copy or export it again; else raise {} (section limits of params.yaml)"

_idle: list["LimitedProcess"] = []
_lock = threading.Lock()


def call_limited(where: Path, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function of a module in a process with the limits of `dml.core.limits`, and return what it returns.

    Parameters
    ----------
    where : Path
        The file that is read, for messages.
    function, arguments
        Must be picklable, as must what the function returns or raises.

    Raises
    ------
    InputError
        If the process died, took too long or had too little memory; and whatever the function raises.
    """
    process = _take_idle() or LimitedProcess()
    try:
        done, value = process.call(where, function, arguments)
    except BaseException:
        process.stop()
        raise
    with _lock:
        _idle.append(process)
    if not done:
        raise value
    result: Result = value
    return result


def _take_idle() -> "LimitedProcess | None":
    """Return a process that waits, was started under the limits of today, and lives."""
    with _lock:
        while _idle:
            process = _idle.pop()
            if process.is_ready():
                return process
            process.stop()
    return None


class LimitedProcess:
    """A process of this Python that runs one function after another."""

    def __init__(self) -> None:
        self._limits = current()
        self._connection, theirs = connections.Pipe()
        number = theirs.fileno()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "dml.core.limited_process", str(number), str(self._limits.reader_gb)]
        self._process = subprocess.Popen(command, pass_fds=(number,), env=environment, stdin=subprocess.DEVNULL)
        theirs.close()

    def call(self, where: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Run a function there; return whether it ended well, with its value or else its error."""
        seconds = self._limits.reader_seconds
        try:
            self._connection.send((str(Path.cwd()), function, arguments))
            if not self._connection.poll(seconds):
                problem = f"reading it took longer than {seconds:g} seconds"
                raise InputError(where, problem, _REMEDY.format("limits.reader_seconds"))
            done, value = self._connection.recv()
        except (EOFError, ConnectionError):
            code = self._process.wait()
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            problem = f"the process that read it died ({how})"
            raise InputError(where, problem, _REMEDY.format("limits.reader_gb")) from None
        if isinstance(value, MemoryError):
            problem = f"reading it needs more than {self._limits.reader_gb:g} GB of memory"
            return False, InputError(where, problem, _REMEDY.format("limits.reader_gb"))
        return done, value

    def is_ready(self) -> bool:
        """Whether it lives, under the limits that hold now."""
        return self._process.poll() is None and self._limits == current()

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._connection.close()
        self._process.kill()
        self._process.wait()


def _serve(connection: Connection, gigabytes: float) -> None:
    """Run what arrives until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks is interrupted, and closes its end
    most = int(gigabytes * 1e9) + _virtual_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with suppress(EOFError, ConnectionError):
        while True:
            folder, function, arguments = connection.recv()
            os.chdir(folder)
            try:
                answer = True, function(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the function was called
                answer = False, error
            try:
                connection.send(answer)
            except (PicklingError, TypeError, AttributeError):  # an error of a library may hold an open file
                connection.send((False, RuntimeError(f"{type(answer[1]).__name__}: {answer[1]}")))


def _virtual_bytes() -> int:
    """Return the address space in use, most of which is libraries."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@atexit.register
def stop_idle() -> None:
    """End the processes that wait for the next call."""
    with _lock:
        while _idle:
            _idle.pop().stop()


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), float(sys.argv[2]))
