"""Who may be tested, and expectations on folds: every task can be trained and evaluated in every fold."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from dml.config.params import TestPopulation
from dml.core.errors import CheckFailed, ConfigError
from dml.core.files import read_parquet
from dml.core.types import SURVIVAL


def eligible_patients(folder: Path, tested: TestPopulation) -> set[str]:
    """Return the patients that folds may test: those with features of at least one slide, and expression.

    Expression is not needed where `tested` is ``slide``, nor in a cohort that has none at all.
    """
    manifest: pd.DataFrame = read_parquet(folder / "features" / "manifest.parquet")[0].to_pandas()
    with_slide = set(manifest.loc[manifest["status"] == "ok", "patient_id"].dropna())
    expressed = set(read_parquet(folder / "expression.parquet", columns=["patient_id"])[0]["patient_id"].to_pylist())
    return with_slide & expressed if expressed and tested == "paired" else with_slide


def check_folds(
    splits: pd.DataFrame, patients: pd.DataFrame, tasks: Sequence[str], classes: Mapping[str, Sequence[str]]
) -> None:
    """Refuse folds without a death, with one class only, or with numbers that do not vary, on either side.

    Parameters
    ----------
    splits : DataFrame
        patient_id, fold, role.
    patients : DataFrame
        patient_id, event, survival_days, and a column per label.
    tasks : sequence of str
        What is trained: survival or labels.
    classes : mapping
        Label to its classes; none of a number.

    Raises
    ------
    CheckFailed
        Lists tasks and folds that cannot be trained or evaluated, and why.
    ConfigError
        If a task is no label of the cohort.
    """
    rows = splits.merge(patients, on="patient_id")
    wrong = []
    for task in tasks:
        if task != SURVIVAL and task not in classes:
            raise ConfigError(f"tasks: {task} is no task of this cohort; there are {', '.join([SURVIVAL, *classes])}")
        for fold, part in rows.groupby("fold"):
            if task == SURVIVAL:
                problems = _survival(part)
            else:
                problems = _label(part, task, classes[task]) if len(classes[task]) else _number(part, task)
            wrong += [f"  {task}, fold {fold}: {problem}" for problem in problems]
    if wrong:
        remedy = "Use fewer folds, name the task's label in split.stratify, merge classes, or leave the task out"
        raise CheckFailed(f"splits: {len(wrong)} parts of folds cannot be used:\n" + "\n".join([*wrong, remedy]))


def _parts(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "training", rows[rows["role"] != "test"]
    yield "test", rows[rows["role"] == "test"]


def _survival(rows: pd.DataFrame) -> Iterator[str]:
    followed = rows.dropna(subset=["survival_days", "event"])
    for name, part in _parts(followed):
        if not part["event"].astype(bool).any():
            yield f"none of the {len(part)} {name} patients with follow-up died"


def _label(rows: pd.DataFrame, task: str, classes: Sequence[str]) -> Iterator[str]:
    for name, part in _parts(rows.dropna(subset=[task])):
        present = set(part[task])
        absent = [each for each in classes if each not in present]
        if absent and (name == "training" or len(present) < 2):
            yield f"none of the {len(part)} {name} patients is {' or '.join(absent)}"


def _number(rows: pd.DataFrame, task: str) -> Iterator[str]:
    for name, part in _parts(rows.dropna(subset=[task])):
        if part[task].nunique() < 2:
            yield f"the {len(part)} {name} patients with a number have {part[task].nunique()} different ones"
