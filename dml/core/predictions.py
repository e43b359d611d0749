"""predictions.parquet: a model's predictions for the validation and test patients of one fold, with what was observed.

Every model writes this one form, so every number and figure of a report is computed from the same rows in the same way.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa

from dml.core.errors import InputError, listed
from dml.core.files import read_parquet, write_parquet
from dml.core.tasks import Task, task_of
from dml.core.types import Kind

KEY_COLUMNS = ("patient_id", "site", "fold", "role", "model")
"""Columns of every predictions.parquet, before the model's outputs and the target."""
ROLES = ("validation", "test")


def write_predictions(path: Path, rows: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    """Check and write the predictions of one model and fold.

    Parameters
    ----------
    path : Path
        Where to; written atomically.
    rows : DataFrame
        One row per patient: `KEY_COLUMNS`, then ``risk``, ``survival_<days>``..., ``days``, ``event`` for survival,
        ``p_<class>``..., ``label`` for classification, or ``value``, ``value_lower``, ``value_upper``, ``target`` for
        regression.
    metadata : mapping
        ``task``, ``kind`` (of `Kind`), ``classes``, ``train_cutoff`` (median training risk),
        ``train_days`` and ``train_event`` (follow-up of the training patients, for censoring weights).

    Raises
    ------
    InputError
        If a column is missing, a patient is there twice, or an output or target is not valid.
    """
    check_predictions(path, rows, metadata)
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    write_parquet(path, table, metadata)


def read_predictions(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read and check the predictions of one model and fold, with their metadata.

    Raises
    ------
    InputError
        If the file is missing, unreadable, or fails the checks of `write_predictions`.
    """
    table, metadata = read_parquet(path)
    rows = table.to_pandas()
    check_predictions(path, rows, metadata)
    return rows, metadata


def check_predictions(path: Path, rows: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    """Raise InputError, naming patients and columns, if the rows are not valid predictions."""
    if metadata.get("kind") not in get_args(Kind):
        raise InputError(
            path, f"metadata 'kind' is {metadata.get('kind')!r}", f"It must be {' or '.join(get_args(Kind))}"
        )
    task = task_of(metadata)
    wanted = [*KEY_COLUMNS, *task.output_columns(rows.columns), *task.target_columns]
    missing = [column for column in wanted if column not in rows.columns]
    if missing:
        raise InputError(path, f"columns missing: {listed(missing)}", f"Found {listed(list(rows.columns), 20)}")
    _check_patients(path, rows)
    _check_values(path, rows, task)


def _check_patients(path: Path, rows: pd.DataFrame) -> None:
    twice = rows.loc[rows.duplicated(["patient_id", "fold"]), "patient_id"].unique().tolist()
    if twice:
        raise InputError(path, f"patients with more than one row in a fold: {listed(twice)}", "A patient is one row")
    unknown = sorted(set(rows["role"]) - set(ROLES))
    if unknown:
        raise InputError(path, f"roles {listed(unknown)}", f"Only {' and '.join(ROLES)} patients are predicted")


def _check_values(path: Path, rows: pd.DataFrame, task: Task) -> None:
    columns = task.output_columns(rows.columns)
    not_finite = ~np.isfinite(rows[columns].to_numpy(float)).all(axis=1)
    for wrong, problem in [
        (not_finite, f"NaN or infinite values among {listed(columns, 10)}"),
        *task.problems(rows),
    ]:
        if wrong.any():
            patients = listed(rows.loc[wrong, "patient_id"].tolist())
            remedy = "Correct the model or stage that wrote it, then run dvc repro"
            raise InputError(path, f"{problem}: patients {patients}", remedy)
