"""Outcomes of logged patients: a table that grows, matched to the log by the hash of the id."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dml.core.errors import InputError, listed
from dml.core.tasks import Task
from dml.inference.prediction_log import PATIENT, patient_key
from dml.readers.table_files import MISSING, read_table

ID, TIME, EVENT, ENTRY, LABEL, TARGET = "patient_id", "time", "event", "entry", "label", "target"
COLUMNS = {"survival": (TIME, EVENT), "classification": (LABEL,), "regression": (TARGET,)}
"""Columns that a table of outcomes has beside `ID`, by kind of task; `ENTRY` may be there, too."""
_TRUE, _FALSE = ("1", "1.0", "true", "yes", "dead"), ("0", "0.0", "false", "no", "alive")


def read_outcomes(path: Path, task: Task, key: bytes) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table of outcomes.

    Parameters
    ----------
    path : Path
        A row a patient: patient_id, and of survival ``time`` (days since the day that the model counts from, to death
        or the last follow-up), ``event`` (1 died, 0 alive then) and optionally ``entry`` (day of the prediction, 0 by
        default); of classes ``label``; of a number ``target``. Further columns are subgroups.
    task : Task
        What the model predicts.
    key : bytes
        Secret of the log, under which ids are hashed.

    Returns
    -------
    table : DataFrame
        patient (hash), the outcome, and the subgroups as text; patients without outcome are left out.
    subgroups : tuple of str
        Names of the further columns.

    Raises
    ------
    InputError
        If a column is missing, a patient is there twice, or a value is not valid; the rows are named.
    """
    frame = read_table(path)
    needed = (ID, *COLUMNS[task.kind])
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise InputError(path, f"no column {' or '.join(missing)}", f"Columns: {', '.join(needed)}, and subgroups")
    frame = frame.astype(str).map(str.strip)
    twice = frame[ID].duplicated(keep=False)
    if twice.any():
        raise InputError(path, f"patients with two rows (rows {_rows(frame, twice)})", "Keep the latest row of each")
    known = ~frame[list(COLUMNS[task.kind])].isin(MISSING).any(axis=1)
    frame = frame[known]
    table = pd.DataFrame({PATIENT: [patient_key(text, key) for text in frame[ID]]}, index=frame.index)
    subgroups = tuple(str(name) for name in frame.columns if name not in (*needed, ENTRY))
    table = pd.concat([table, _parse(path, frame, task), frame[list(subgroups)]], axis=1)
    return table.reset_index(drop=True), subgroups


def _parse(path: Path, frame: pd.DataFrame, task: Task) -> pd.DataFrame:
    if task.kind == "survival":
        entry = _numbers(path, frame, ENTRY) if ENTRY in frame else pd.Series(0.0, index=frame.index)
        time, event = _numbers(path, frame, TIME), frame[EVENT].str.lower()
        _refuse(path, frame, (time < entry) | (entry < 0), f"{TIME} before {ENTRY}, or a negative day")
        _refuse(path, frame, ~event.isin([*_TRUE, *_FALSE]), f"{EVENT} that is neither 1 nor 0")
        return pd.DataFrame({TIME: time, EVENT: event.isin(_TRUE), ENTRY: entry})
    if task.kind == "regression":
        return pd.DataFrame({TARGET: _numbers(path, frame, TARGET)})
    _refuse(path, frame, ~frame[LABEL].isin(task.classes), f"{LABEL} other than {listed(task.classes, 20)}")
    return frame[[LABEL]]


def _numbers(path: Path, frame: pd.DataFrame, column: str) -> pd.Series:
    text = frame[column].replace(list(MISSING), "0") if column == ENTRY else frame[column]
    values: pd.Series = pd.to_numeric(text, errors="coerce")
    _refuse(path, frame, ~np.isfinite(values), f"{column} that is not a number")
    return values


def _refuse(path: Path, frame: pd.DataFrame, wrong: pd.Series, problem: str) -> None:
    if wrong.any():
        raise InputError(path, f"{problem} (rows {_rows(frame, wrong)})", "Correct the table")


def _rows(frame: pd.DataFrame, wrong: "pd.Series | Sequence[bool]") -> str:
    return listed([str(row) for row in frame.index[np.asarray(wrong, bool)]])
