"""Errors a user can act on: each names the place, what was found there, and the remedy."""

from collections.abc import Sequence
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
    found : str
        What was found, with the offending rows or fields.
    remedy : str
        What the user can do about it.
    """

    exit_code = 2

    def __init__(self, where: Path | str, found: str, remedy: str) -> None:
        super().__init__(f"{where}: {found}. {remedy}")
        self.where, self.found, self.remedy = str(where), found, remedy

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, str]]:
        """Survive the way back from another process."""
        return type(self), (self.where, self.found, self.remedy)


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
