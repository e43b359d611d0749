"""Predict the slides that arrive in a folder: each finished file once, a row each, whatever interrupts it.

A file is finished when its size and time are the same at two looks and nothing was written to it for a while. The table
of rows is the only state: a file is done if it stands there with its size and time, so that a later start goes on where
an earlier one was killed, and a file that is written anew is predicted anew. The table is replaced as a whole and is
never half written. Nothing in the folder is changed, and no network is used.
"""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from dml.core.errors import Busy, DmlError, InputError, first_line
from dml.inference.prediction_log import INPUTS, PredictionLog, split_inputs
from dml.inference.slide_inputs import FEATURES
from dml.readers.slide_files import IMAGE_SUFFIXES
from dml.registry.predict import SLIDES, check_format, request_table, write_table

if TYPE_CHECKING:
    import pandas as pd

    from dml.registry.versions import RegisteredVersion

PredictFile = Callable[["pd.DataFrame"], "pd.DataFrame"]
"""The rows of one file (`request_table`) to a row a patient."""
FILE, BYTES, MODIFIED = "file", "bytes", "modified"
FAILED = "failed"
"""Status of a file that ended the prediction; one that the model refuses has the status refused, as in `predict`."""
WATCHED = (".csv", ".parquet")
"""Formats of the table of rows."""


class Arrival(NamedTuple):
    """A file as it was at one look: its path from the folder, size, and time of the last change in nanoseconds."""

    file: str
    size: int
    modified: int

    @property
    def key(self) -> tuple[str, int, str]:
        """What is in the table of rows; a time in nanoseconds would not survive as a number."""
        return self.file, self.size, str(self.modified)


@dataclass
class FolderWatch:
    """The files of a folder, and which of them are done.

    Parameters
    ----------
    folder : Path
        Searched with all its folders; hidden files are left alone.
    out : Path
        Table of rows, .csv or .parquet.
    predict : callable
        Predicts one file.
    settle_s : float
        How long a file must not have changed.
    with_images : bool
        Take JPEG and PNG, too: they state no resolution, so it must be given.

    Raises
    ------
    InputError
        If the folder does not exist, or `out` is in another format or has other columns.
    """

    folder: Path
    out: Path
    predict: PredictFile
    request: Mapping[str, Any] = field(default_factory=dict)
    settle_s: float = 10.0
    with_images: bool = False

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise InputError(self.folder, "no folder", "Give the folder that the scanner exports to")
        check_format(self.out)
        if self.out.suffix not in WATCHED:
            raise InputError(self.out, "rows cannot be added to it", f"Use one of {', '.join(WATCHED)}")
        self._suffixes = (*SLIDES, *FEATURES, *(IMAGE_SUFFIXES if self.with_images else ()))
        self._before: set[Arrival] = set()
        self._done = {_key(row) for row in _read(self.out).to_dict("records")}

    def look(self) -> list[dict[str, Any]]:
        """Predict what has been finished since the last look, one file after the other; return the new rows."""
        now = set(self._arrivals())
        unchanged, self._before = now & self._before, now
        limit = time.time_ns() - int(self.settle_s * 1e9)
        ready = sorted(a for a in unchanged if a.modified <= limit and a.key not in self._done)
        return [row for arrival in ready for row in self._handle(arrival)]

    def _arrivals(self) -> Iterator[Arrival]:
        for path in self.folder.rglob("*"):
            relative = path.relative_to(self.folder)
            hidden = any(part.startswith(".") for part in relative.parts)
            if hidden or path.suffix.lower() not in self._suffixes or path.absolute() == self.out.absolute():
                continue
            try:
                status = path.stat()
            except OSError:  # it was moved meanwhile
                continue
            if path.is_file() and status.st_size:
                yield Arrival(relative.as_posix(), status.st_size, status.st_mtime_ns)

    def _handle(self, arrival: Arrival) -> list[dict[str, Any]]:
        import pandas as pd

        origin = {FILE: arrival.file, BYTES: arrival.size, MODIFIED: str(arrival.modified)}
        path = self.folder / arrival.file
        try:
            predicted = self.predict(request_table(path, **self.request))
            rows = [{**origin, **{str(k): v for k, v in row.items()}} for row in predicted.to_dict("records")]
        except (DmlError, OSError) as error:
            rows = [{**origin, "patient_id": path.stem, "status": FAILED, "reason": first_line(error)}]
        before = _read(self.out)
        table = pd.concat([before, pd.DataFrame(rows)], ignore_index=True) if len(before) else pd.DataFrame(rows)
        write_table(table, self.out)
        self._done.add(arrival.key)
        return rows


class RegisteredFile:
    """Predicts files with a registered version, which is loaded once; after an error it is loaded again.

    Parameters
    ----------
    version : RegisteredVersion
        Of `dml.registry.versions.resolve`.
    log : Path, optional
        Folder in which the predictions are logged.
    """

    def __init__(self, version: "RegisteredVersion", log: Path | None = None) -> None:
        self._version, self._stack = version, ExitStack()
        self._log = None if log is None else PredictionLog(log, version.tags["digest"])
        self._predict: Callable[[pd.DataFrame, Mapping[str, Any]], pd.DataFrame] | None = None

    def __call__(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """Predict the rows of one file."""
        from dml.registry.packaged_code import load_with_packaged_code

        if self._predict is None:
            self._predict = self._stack.enter_context(load_with_packaged_code(self._version))
        try:
            predicted = self._predict(rows, {INPUTS: True} if self._log else {})
        except DmlError:
            self.close()
            raise
        if self._log is not None:
            self._log.write(predicted, rows)
        return split_inputs(predicted)

    def close(self) -> None:
        """End the process of the version, if it has one."""
        self._predict = None
        self._stack.close()


def watch(
    folder_watch: FolderWatch,
    poll_s: float,
    report: Callable[[Mapping[str, Any]], None],
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Look into the folder again and again.

    Parameters
    ----------
    poll_s : float
        Pause between two looks.
    report : callable
        Is given every new row.
    is_stopped : callable
        Asked after each look.

    Raises
    ------
    Busy
        If another process adds to the same table.
    """
    with _only_one(folder_watch.out):
        while not is_stopped():
            for row in folder_watch.look():
                report(row)
            time.sleep(poll_s)


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise Busy(f"{out}: another process adds rows to it. Stop that one, or name another --out") from None


def _read(out: Path) -> "pd.DataFrame":
    import pandas as pd

    if not out.exists():
        return pd.DataFrame(columns=[FILE, BYTES, MODIFIED])
    text: dict[Hashable, type[str]] = dict.fromkeys((FILE, MODIFIED, "patient_id"), str)
    table = pd.read_parquet(out) if out.suffix == ".parquet" else pd.read_csv(out, dtype=text)
    if not {FILE, BYTES, MODIFIED} <= set(table.columns):
        raise InputError(out, "no table of a watched folder", "Name a new file with --out")
    return table


def _key(row: Mapping[Any, Any]) -> tuple[str, int, str]:
    return str(row[FILE]), int(row[BYTES]), str(row[MODIFIED])
