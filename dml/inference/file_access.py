"""Which files a model reads for a request: any at the command line, those below one folder when it is served."""

import os
from dataclasses import dataclass
from pathlib import Path

from dml.core.errors import InputError

SERVED_ROOT = "DML_SERVED_ROOT"
"""Environment variable with the folder that a served model reads from; the folder it was started in by default."""


@dataclass(frozen=True, slots=True)
class FileAccess:
    """Turns the paths of a request into files.

    Attributes
    ----------
    root : Path or None
        Folder outside of which nothing is read, whatever links lead there; relative paths begin there. None = no limit.

    Examples
    --------
    >>> FileAccess(Path("/srv/slides")).file(Path("/etc/passwd"))
    Traceback (most recent call last):
    dml.core.errors.InputError: /etc/passwd: not a file that this service reads. Give one below its folder \
(DML_SERVED_ROOT)
    """

    root: Path | None = None

    @classmethod
    def of_server(cls) -> "FileAccess":
        """Return the access of a served model."""
        return cls(Path(os.environ.get(SERVED_ROOT) or Path.cwd()).resolve())

    def file(self, path: Path) -> Path:
        """Return the file of a path.

        Raises
        ------
        InputError
            If there is none to be read; with a root it is the same message for missing and for forbidden files.
        """
        if self.root is None:
            if not path.exists():
                raise InputError(path, "the file does not exist", "Check the path")
            return path
        try:
            target = (self.root / path).resolve(strict=True)
            readable = target.is_relative_to(self.root) and target.is_file() and os.access(target, os.R_OK)
        except (OSError, RuntimeError, ValueError):  # missing, circular links, a null byte
            readable = False
        if not readable:
            raise InputError(path, "not a file that this service reads", f"Give one below its folder ({SERVED_ROOT})")
        return target


ANY_FILE = FileAccess()
"""At the command line: the user has the rights of the account."""
