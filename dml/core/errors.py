"""Errors that a user can act on: each names the file, the problem and the remedy."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class DmlError(Exception):
    """A user error; the command line prints it without a traceback and exits with `exit_code`."""

    exit_code = 1


class InputError(DmlError):
    """Something in an input file is not as it must be.

    Parameters
    ----------
    where : Path or str
        The file (or table, or parameter) concerned.
    problem : str
        What is wrong, with the rows or fields concerned.
    remedy : str
        Correction or command that mends it.
    """

    exit_code = 2

    def __init__(self, where: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}. {remedy}")
        self.where, self.problem, self.remedy = str(where), problem, remedy

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, str]]:
        """Survive the way back from another process."""
        return type(self), (self.where, self.problem, self.remedy)


class ConfigError(DmlError):
    """params.yaml or a cohort description has an unknown key or a wrong value."""

    exit_code = 2


class CheckFailed(DmlError):
    """A cohort check of severity `error` failed; the report says which rows."""

    exit_code = 3


class GateFailed(DmlError):
    """A promotion gate refused a model version."""

    exit_code = 4


class Busy(DmlError):
    """Another process holds the lock of this stage or store."""

    exit_code = 5


def listed(items: Sequence[object], most: int = 5) -> str:
    """Join the first few items for a message: ``a, b, c (+2 more)``."""
    shown = ", ".join(str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown} (+{len(items) - most} more)"


class TrackingError(DmlError):
    """The tracking store (MLflow) cannot be opened, or fails."""

    exit_code = 6


_DISK_FULL = ("No space left on device", "disk is full", "Disk quota exceeded", "StorageFull")
"""Messages of the operating system, of SQLite, and of the Rust library behind safetensors."""


def as_user_error(error: Exception) -> DmlError | None:
    """Return the error of a library as one that a user can act on; None for what is a fault of this program.

    A full disk wherever it is noticed, failures of MLflow and of its database, and what the operating system refuses.

    Examples
    --------
    >>> type(as_user_error(OSError(28, "No space left on device")))
    <class 'dml.core.errors.DmlError'>
    >>> as_user_error(ZeroDivisionError()) is None
    True
    """
    if isinstance(error, DmlError):
        return error
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or any(sign in str(error) for sign in _DISK_FULL):
        return DmlError(f"the disk is full ({error}). Free some space, then run again: no file is left half-written")
    if type(error).__module__.partition(".")[0] in ("mlflow", "sqlalchemy"):
        message = " ".join(str(error).split()) or type(error).__name__
        return TrackingError(f"the tracking store failed: {message}. See dml doctor, and check MLFLOW_TRACKING_URI")
    return DmlError(str(error)) if isinstance(error, OSError) else None


def first_line(error: BaseException, most: int = 200) -> str:
    """Return the first line of another library's error, or its name if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


@contextmanager
def refuse_unreadable(where: Path | str, remedy: str = "Copy or export it again") -> Iterator[None]:
    """Turn whatever a library raises over a foreign file into an `InputError` that names the file.

    Readers of images, HDF5 and archives raise errors of every kind for broken files, and `MemoryError` for files that
    claim to be larger than they are; one such file must not end the work on the others.

    Examples
    --------
    >>> with refuse_unreadable("a.h5"):
    ...     raise KeyError("features")
    Traceback (most recent call last):
    dml.core.errors.InputError: a.h5: cannot be read (KeyError: 'features'). Copy or export it again
    """
    try:
        yield
    except (DmlError, NameError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(where, f"cannot be read ({type(error).__name__}: {reason})", remedy) from error
