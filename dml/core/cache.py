"""Cache of finished work, outside the outputs of stages, which DVC deletes before a run; its files are linked there."""

import os
import shutil
from pathlib import Path

from dml.core.files import WORK


def cache_dir(kind: str, key: str, root: Path | None = None) -> Path:
    """Return the folder of one finished or half-finished piece of work."""
    return (WORK if root is None else root) / kind / key[:2] / key


def hardlink(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`: a hard link, or a copy where links are not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # renaming onto another link of the same file does nothing
