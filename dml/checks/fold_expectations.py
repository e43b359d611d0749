"""Whether every task can be learnt and judged in every fold, said before anything is trained."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from dml.core.errors import CheckFailed, ConfigError
from dml.core.types import SURVIVAL


def check_folds(
    splits: pd.DataFrame, patients: pd.DataFrame, tasks: Sequence[str], classes: Mapping[str, Sequence[str]]
) -> None:
    """Refuse folds without a death, or with one class only, on either side.

    Parameters
    ----------
    splits : DataFrame
        patient_id, fold, role.
    patients : DataFrame
        patient_id, event, survival_days, and a column per label.
    tasks : sequence of str
        What will be learnt: survival or labels.
    classes : mapping
        Label to its classes.

    Raises
    ------
    CheckFailed
        Lists tasks and folds that cannot be learnt from or judged, and why.
    ConfigError
        If a task is no label of the cohort.
    """
    rows = splits.merge(patients, on="patient_id")
    wrong = []
    for task in tasks:
        if task != SURVIVAL and task not in classes:
            raise ConfigError(f"tasks: {task} is no task of this cohort; there are {', '.join([SURVIVAL, *classes])}")
        for fold, own in rows.groupby("fold"):
            found = _survival(own) if task == SURVIVAL else _label(own, task, classes[task])
            wrong += [f"  {task}, fold {fold}: {problem}" for problem in found]
    if wrong:
        remedy = "Use fewer folds, name the task's label in split.stratify, merge classes, or leave the task out"
        raise CheckFailed(f"splits: {len(wrong)} parts of folds are of no use:\n" + "\n".join([*wrong, remedy]))


def _parts(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "learning", rows[rows["role"] != "test"]
    yield "tested", rows[rows["role"] == "test"]


def _survival(rows: pd.DataFrame) -> Iterator[str]:
    followed = rows.dropna(subset=["survival_days", "event"])
    for name, part in _parts(followed):
        if not part["event"].astype(bool).any():
            yield f"nobody of the {len(part)} {name} patients with follow-up died"


def _label(rows: pd.DataFrame, task: str, classes: Sequence[str]) -> Iterator[str]:
    for name, part in _parts(rows.dropna(subset=[task])):
        there = set(part[task])
        absent = [each for each in classes if each not in there]
        if absent and (name == "learning" or len(there) < 2):
            yield f"none of the {len(part)} {name} patients is {' or '.join(absent)}"
