"""A dvc.lock for each cohort: that of a generated cohort is a link to a file that git ignores.

Painted slides and their features differ by bytes between processors, so the lock of a generated cohort says nothing on
another machine; that of a real cohort is evidence and is committed. DVC refuses a lock that git ignores, but follows a
link.
"""

import shutil
from pathlib import Path

from dml.core.dvc_lock import LOCK, WHOLE_LOCK
from dml.core.files import atomic

LOCKS = Path(".dvc/tmp/cohorts")
"""Folder of the locks of other cohorts (ignored by git through .dvc/.gitignore)."""
EMPTY = "schema: '2.0'\n"


def switch_lock(previous: str, name: str, generated: bool) -> None:
    """Put the lock of the cohort used before aside and that of another in its place.

    Parameters
    ----------
    previous, name : str
        The cohort used before and the one used from now on; they may be the same.
    generated : bool
        Whether the new one is generated, so that dvc.lock becomes a link.
    """
    if not LOCKS.parents[1].is_dir():  # no DVC repository
        return
    LOCKS.mkdir(parents=True, exist_ok=True)
    if previous != name:
        WHOLE_LOCK.unlink(missing_ok=True)
    aside = LOCKS / f"{name}.lock"
    if LOCK.exists() and not LOCK.is_symlink() and (previous != name or generated):
        shutil.move(LOCK, LOCKS / f"{previous}.lock")
    if not generated:
        if LOCK.is_symlink():
            LOCK.unlink()
        if aside.exists() and not LOCK.exists():
            with atomic(LOCK) as temporary:
                shutil.copy(aside, temporary)
        return
    if not aside.exists():
        aside.write_text(EMPTY)
    if not LOCK.is_symlink() or LOCK.readlink() != aside:
        LOCK.unlink(missing_ok=True)
        LOCK.symlink_to(aside)
