"""The log of predictions, which is kept only where it is asked for: numbers and keyed hashes, no names and no paths.

``<folder>/<digest of the weights>/<year>-W<week>/<time>-<random>.parquet``, a file a request. A patient is the hash of
the id under a secret of the folder (``.key``, readable by its owner only): the same patient has the same key, and
whoever has the files without the secret cannot try ids. Files are written as a whole under their final name, so that
several processes may log into one folder.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow as pa

from dml.core.errors import InputError
from dml.core.files import read_parquet, write_parquet

INPUTS = "inputs"
"""Inference parameter, and column of JSON: what the model was given for a patient, and the outputs of each fold."""
BY_FOLD = "by_fold"
"""Outputs of each fold [folds, outputs], in it."""
PATIENT, LOGGED_AT, SITE = "patient", "logged_at", "site"
LOG_FOLDER = "DML_PREDICTION_LOG"
"""Environment variable with the folder that a served model logs into; unset, nothing is logged."""
KEY = ".key"
NOT_LOGGED = ("patient_id", "reason", "attention", "similar", INPUTS)
"""Columns of predictions that name patients, slides or files, or describe a patient in detail."""


class PredictionLog:
    """Writes predictions of one set of weights.

    Parameters
    ----------
    folder : Path
        Of all logs; it is created.
    weights : str
        Digest of the weights (tag ``digest`` of the version).
    """

    def __init__(self, folder: Path, weights: str) -> None:
        self.folder, self.weights = folder, weights
        self._key = read_key(folder, create=True)

    def write(self, predicted: pd.DataFrame, table: pd.DataFrame, now: datetime | None = None) -> Path:
        """Log the rows of one request.

        Parameters
        ----------
        predicted : DataFrame
            Predictions with the column `INPUTS`.
        table : DataFrame
            The request (patient_id, and site if it is known).
        now : datetime, optional
            Time of the request; the present by default.

        Raises
        ------
        InputError
            If the predictions have no column `INPUTS`: the version was registered before there was a log.
        """
        if INPUTS not in predicted:
            raise InputError(self.weights, "this version cannot be logged", "Register it again: dvc repro register")
        at = now or datetime.now(UTC)
        year, week, _ = at.isocalendar()
        sites = table.dropna(subset=[SITE]).groupby("patient_id")[SITE].first() if SITE in table else pd.Series()
        rows = [self._row(row, sites.get(row["patient_id"]), at) for row in predicted.to_dict("records")]
        path = self.folder / self.weights / f"{year}-W{week:02d}" / f"{at:%Y%m%dT%H%M%S%f}-{uuid4().hex[:8]}.parquet"
        written = pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False).replace_schema_metadata(None)
        write_parquet(path, written, {"weights": self.weights})
        return path

    def _row(self, row: dict[Any, Any], site: str | None, at: datetime) -> dict[str, Any]:
        inputs = json.loads(row[INPUTS]) if isinstance(row[INPUTS], str) else {}
        logged = {str(name): value for name, value in row.items() if name not in NOT_LOGGED}
        key = patient_key(str(row["patient_id"]), self._key)
        return {PATIENT: key, LOGGED_AT: at.isoformat(), SITE: site, **logged, **inputs}


def split_inputs(predicted: pd.DataFrame) -> pd.DataFrame:
    """Return predictions as a user asked for them, without the column that only the log needs."""
    return predicted.drop(columns=INPUTS, errors="ignore")


def patient_key(patient_id: str, key: bytes) -> str:
    """Hash an id under a secret.

    Examples
    --------
    >>> patient_key("TCGA-02-0001", b"secret") == patient_key("TCGA-02-0001", b"secret")
    True
    >>> patient_key("TCGA-02-0001", b"secret") == patient_key("TCGA-02-0001", b"another")
    False
    """
    return hashlib.blake2b(patient_id.encode(), key=key, digest_size=16).hexdigest()


def read_key(folder: Path, create: bool = False) -> bytes:
    """Read the secret of a log.

    Raises
    ------
    InputError
        If there is none and it is not to be created: hashes under a new one would match no logged patient.
    """
    path = folder / KEY
    if create:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{KEY}.{uuid4().hex}"
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        try:
            with suppress(FileExistsError):  # of several processes that begin at once, the first one's is kept
                os.link(temporary, path)
        finally:
            temporary.unlink()
    if not path.exists():
        raise InputError(path, "the secret of the log is missing", "Restore it: without it no patient is recognised")
    return bytes.fromhex(path.read_text())


def read_log(folder: Path, weights: str) -> pd.DataFrame:
    """Read everything that was logged for a set of weights, oldest first; a patient who came again has several rows.

    Raises
    ------
    InputError
        If nothing was logged for it, or a file cannot be read.
    """
    tables = [read_parquet(path)[0].to_pandas() for path in _files(folder / weights)]
    if not tables:
        remedy = "Log predictions first: dml predict --log FOLDER, or DML_PREDICTION_LOG of the served model"
        raise InputError(folder, "no prediction of this version was logged", remedy)
    rows = pd.concat(tables, ignore_index=True)
    rows[LOGGED_AT] = pd.to_datetime(rows[LOGGED_AT], utc=True, format="ISO8601")
    ordered: pd.DataFrame = rows.sort_values(LOGGED_AT, kind="stable", ignore_index=True)
    return ordered


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.glob("*/*.parquet") if not path.name.startswith("."))
