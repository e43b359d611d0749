"""predictions.parquet: what one model says about the validation and test patients of one fold, beside the truth.

Every model writes this one form, so every number and figure of a report is computed from the same rows in the same way.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from dml.core.errors import InputError, listed
from dml.core.files import read_parquet, write_parquet

Kind = Literal["survival", "classification"]
PREDICTION = ("patient_id", "site", "fold", "role", "model")
"""Columns of every predictions.parquet, before the model's outputs and the truth."""
ROLES = ("validation", "test")
DAYS_PER_YEAR = 365.25
TOLERANCE = 1e-3
"""How far probabilities may be from summing to one (float32 outputs)."""


def horizon_days(year: float) -> int:
    """Days after which survival is reported for a horizon in years: the number in the column's name."""
    return round(DAYS_PER_YEAR * year)


def survival_column(year: float) -> str:
    """Name of the column with the probability to be alive after some years: ``survival_365`` for one year."""
    return f"survival_{horizon_days(year)}"


def horizons_of(years: Iterable[float]) -> dict[str, int]:
    """Return the survival columns of some horizons in years, each with its days."""
    return {survival_column(year): horizon_days(year) for year in years}


def class_column(name: str) -> str:
    """Name of the column with the probability of one class."""
    return f"p_{name}"


def write_predictions(path: Path, rows: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    """Check and write the predictions of one model and fold.

    Parameters
    ----------
    path : Path
        Where to; written atomically.
    rows : DataFrame
        One row per patient: `PREDICTION`, then ``risk``, ``survival_<days>``..., ``days``, ``event`` for survival or
        ``p_<class>``..., ``label`` for classification.
    metadata : mapping
        ``task``, ``kind`` ("survival" or "classification"), ``classes``, ``train_cutoff`` (median training risk),
        ``train_days`` and ``train_event`` (follow-up of the training patients, for censoring weights).

    Raises
    ------
    InputError
        If a column is missing, a patient is there twice, or an output or truth is not what it must be.
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


def outputs(rows: pd.DataFrame, metadata: Mapping[str, Any]) -> list[str]:
    """Names of the columns a model filled: risk and survival probabilities, or class probabilities."""
    if metadata["kind"] == "classification":
        return [class_column(name) for name in metadata["classes"]]
    return ["risk", *(column for column in rows.columns if column.startswith("survival_"))]


def truths(metadata: Mapping[str, Any]) -> list[str]:
    """Names of the columns that hold what was observed."""
    return ["label"] if metadata["kind"] == "classification" else ["days", "event"]


def check_predictions(path: Path, rows: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    """Raise InputError, naming patients and columns, if the rows are not valid predictions."""
    if metadata.get("kind") not in ("survival", "classification"):
        raise InputError(path, f"metadata 'kind' is {metadata.get('kind')!r}", "It must be survival or classification")
    wanted = [*PREDICTION, *outputs(rows, metadata), *truths(metadata)]
    missing = [column for column in wanted if column not in rows.columns]
    if missing:
        raise InputError(path, f"columns missing: {listed(missing)}", f"Found {listed(list(rows.columns), 20)}")
    _check_patients(path, rows)
    _check_outputs(path, rows, metadata)
    _check_truth(path, rows, metadata)


def _check_patients(path: Path, rows: pd.DataFrame) -> None:
    twice = rows.loc[rows.duplicated(["patient_id", "fold"]), "patient_id"].unique().tolist()
    if twice:
        raise InputError(path, f"patients with more than one row in a fold: {listed(twice)}", "A patient is one row")
    unknown = sorted(set(rows["role"]) - set(ROLES))
    if unknown:
        raise InputError(path, f"roles {listed(unknown)}", f"Only {' and '.join(ROLES)} patients are predicted")


def _check_outputs(path: Path, rows: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    columns = outputs(rows, metadata)
    values = rows[columns].to_numpy(float)
    _refuse(path, rows, ~np.isfinite(values).all(axis=1), f"NaN or infinite values among {listed(columns, 10)}")
    bounded = values if metadata["kind"] == "classification" else values[:, 1:]
    outside = np.any((bounded < -TOLERANCE) | (bounded > 1 + TOLERANCE), axis=1)
    _refuse(path, rows, outside, "probabilities outside 0 to 1")
    if metadata["kind"] == "classification":
        _refuse(path, rows, np.abs(values.sum(axis=1) - 1) > TOLERANCE, "class probabilities that do not sum to one")


def _check_truth(path: Path, rows: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    if metadata["kind"] == "classification":
        unknown = ~rows["label"].isin(list(metadata["classes"])).to_numpy()
        _refuse(path, rows, unknown, f"labels other than {listed(list(metadata['classes']), 20)}")
        return
    days = rows["days"].to_numpy(float)
    _refuse(path, rows, ~(np.isfinite(days) & (days >= 0)), "follow-up that is missing or negative")
    _refuse(path, rows, ~rows["event"].isin([0, 1]).to_numpy(), "an event that is neither 0 nor 1")


def _refuse(path: Path, rows: pd.DataFrame, wrong: np.ndarray, what: str) -> None:
    if wrong.any():
        patients = listed(rows.loc[wrong, "patient_id"].tolist())
        raise InputError(
            path, f"{what}: patients {patients}", "Correct the model or stage that wrote it, then run dvc repro"
        )
