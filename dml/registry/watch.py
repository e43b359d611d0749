"""Watch a folder into which a scanner writes: each finished slide is predicted once, its row appended atomically.

The file of predictions is also the record of what is done: a slide is finished when its size and time of change were
the same in two looks, and it is done when a row has this size and time. A process that was killed goes on where it was;
a file that was replaced is predicted again.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dml.core.errors import ConfigError, InputError
from dml.core.files import only_writer, read_parquet
from dml.registry.packaged_code import PredictFn, load_with_packaged_code
from dml.registry.predict import list_files, request_table, write_table
from dml.registry.versions import resolve

FORMATS = (".csv", ".parquet")
IDENTITY = ["file", "bytes", "changed_ns"]
"""Columns that say which file a row is of, before those of the prediction."""


@dataclass(frozen=True, slots=True)
class Export:
    """A file in the watched folder as it was at one look."""

    path: Path
    size: int
    changed_ns: int

    @property
    def identity(self) -> tuple[str, int, int]:
        """What a row of the file of predictions names."""
        return str(self.path), self.size, self.changed_ns


class FolderWatch:
    """Predicts the finished slides of a folder.

    Parameters
    ----------
    folder : Path
        Into which slides are written, at any depth.
    out : Path
        File of predictions, .csv or .parquet; rows are appended.
    predict : callable
        From a table of one patient's slides to its row.
    options : mapping
        mpp, upsample, expression and slide_table, as `request_table` takes them.
    """

    def __init__(self, folder: Path, out: Path, predict: PredictFn, **options: Any) -> None:
        if out.suffix not in FORMATS:
            raise InputError(out, f"cannot append to {out.suffix or 'a file without ending'}", "Use .csv or .parquet")
        if not folder.is_dir():
            raise InputError(folder, "no such folder", "Give the folder that the scanner writes to")
        self.folder, self.out, self._predict, self._options = folder, out, predict, options
        self._before: set[tuple[str, int, int]] = set()

    def look(self) -> Iterator[dict[str, Any]]:
        """Look once: predict every file that has not changed since the look before; yields the rows as written."""
        exports = [self._stat(path) for path in list_files(self.folder, none_is_error=False)]
        seen = {export.identity for export in exports if export is not None}
        done = self._done()
        finished = [each for each in exports if each is not None and each.identity in self._before - done]
        self._before = seen
        for export in finished:
            if self._stat(export.path) == export:
                yield self._append(export)

    def _append(self, export: Export) -> dict[str, Any]:
        rows = self._predict(request_table(export.path, **self._options), {})
        identity = dict(zip(IDENTITY, export.identity, strict=True))
        rows = pd.concat([pd.DataFrame([identity] * len(rows)), rows.reset_index(drop=True)], axis=1)
        written = self._read()
        write_table(rows if written is None else pd.concat([written, rows], ignore_index=True), self.out)
        record: dict[str, Any] = rows.iloc[0].to_dict()
        return record

    def _done(self) -> set[tuple[str, int, int]]:
        written = self._read()
        if written is None:
            return set()
        return {(str(f), int(b), int(c)) for f, b, c in written[IDENTITY].itertuples(index=False)}

    def _read(self) -> pd.DataFrame | None:
        """Return the rows that were written; None before the first."""
        if not self.out.exists():
            return None
        is_parquet = self.out.suffix == ".parquet"
        table = (
            read_parquet(self.out)[0].to_pandas() if is_parquet else pd.read_csv(self.out, dtype={"patient_id": str})
        )
        if missing := [name for name in IDENTITY if name not in table.columns]:
            problem = f"is no file of `dml predict --watch`: it has no column {missing[0]}"
            raise InputError(self.out, problem, "Give another --out")
        return table

    def _stat(self, path: Path) -> Export | None:
        """Return the file as it is; None if it has gone."""
        try:
            facts = path.stat()
        except FileNotFoundError:
            return None
        return Export(path, facts.st_size, facts.st_mtime_ns)


def watch(
    reference: str,
    folder: Path,
    out: Path,
    every_s: float,
    looks: int | None,
    report: Callable[[dict[str, Any]], None],
    **options: Any,
) -> int:
    """Watch a folder until interrupted, with a registered model.

    Parameters
    ----------
    reference : str
        ``<name>@<alias>`` or ``<name>/<version>``; resolved once.
    folder, out, options
        As `FolderWatch` takes them.
    every_s : float
        Seconds between two looks.
    looks : int or None
        Number of looks, for a scheduled job; None: until interrupted. Two are needed to see that a file is finished.
    report : callable
        Called with each row.

    Returns
    -------
    int
        Number of files predicted or refused.
    """
    if looks is not None and looks < 2:
        raise ConfigError("--looks: at least 2, as a file is finished when two looks see it unchanged")
    count, look = 0, 0
    with only_writer(f"watch-{out.name}", wait_s=0), load_with_packaged_code(resolve(reference)) as predict:
        watched = FolderWatch(folder, out, predict, **options)
        while looks is None or look < looks:
            if look:
                time.sleep(every_s)
            for row in watched.look():
                report(row)
                count += 1
            look += 1
    return count
