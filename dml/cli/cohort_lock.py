"""A dvc.lock for each cohort: that of a generated cohort is a link to a file that git ignores.

Painted slides and their features differ by bytes between processors, so the lock of a generated cohort says nothing on
another machine; that of a real cohort is evidence and is committed. DVC refuses a lock that git ignores, but follows a
link.
"""

import re
import shutil
from pathlib import Path

from dml.core.dvc_lock import LOCK, WHOLE_LOCK
from dml.core.files import atomic
from dml.core.yaml_files import read_yaml

LOCKS = Path(".dvc/tmp/cohorts")
"""Folder of the locks of other cohorts (ignored by git through .dvc/.gitignore)."""
EMPTY = "schema: '2.0'\n"
PIPELINE = Path("dvc.yaml")
_ENTRY = re.compile(r"^  (?P<name>[^\s@:#-][^@:]*)(?:@[^:]*)?:\s*$")
"""First line of a stage in a lock; those of a matrix have their items behind an @."""


def drop_stale_entries(lock: Path = LOCK, pipeline: Path = PIPELINE) -> list[str]:
    """Take the entries of stages that no longer exist out of a lock; what remains keeps its bytes.

    DVC never does, and parses and writes the whole lock in pure Python for every stage that it runs: 0.15 ms a line.

    Returns
    -------
    list of str
        Names of the stages that were dropped.
    """
    if not lock.exists() or not pipeline.exists():
        return []
    known, left, stale = set(read_yaml(pipeline)["stages"]), [], False
    dropped: dict[str, None] = {}
    for line in lock.read_text().splitlines(keepends=True):
        entry = _ENTRY.match(line)
        if entry:
            stale = entry["name"] not in known
            dropped |= {entry["name"]: None} if stale else {}
        elif not line.startswith(" "):
            stale = False
        if not stale:
            left.append(line)
    if dropped:
        with atomic(lock.resolve()) as temporary:
            temporary.write_text("".join(left))
    return list(dropped)


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
