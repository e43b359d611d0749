"""dvc.lock, which DVC writes in place and for seconds: a copy of the last whole one outlives a kill in these."""

from pathlib import Path
from shutil import copyfile

from dml.core.files import atomic

LOCK, WHOLE_LOCK = Path("dvc.lock"), Path(".dvc/tmp/dvc.lock.whole")


def keep_lock() -> None:
    """Copy the lock; to be called by a stage, while which DVC does not write it."""
    if LOCK.exists() and WHOLE_LOCK.parent.exists():
        with atomic(WHOLE_LOCK) as temporary:
            copyfile(LOCK, temporary)
