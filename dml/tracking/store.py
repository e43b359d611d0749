"""Where runs and registered models are kept: one SQLite file with artifacts beside it, or MLFLOW_TRACKING_URI.

`connect` is the only way in. It creates or upgrades the database once under a lock (of four processes that open a new
SQLite file together, three die), lets a moved repository find its artifacts, and says when a server does not answer.
"""

import functools
import logging
import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from dml.core.errors import DmlError
from dml.core.files import WORK, only_writer

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT = "sqlite:///mlruns/mlflow.db"
KIND, MODEL_TRAINING = "mlflow.experimentKind", "custom_model_development"
"""Tag by which MLflow's pages show runs and metrics of an experiment, not traces of language models."""
_SQLITE = "sqlite:///"
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns in which MLflow stores absolute artifact paths."""
_log = logging.getLogger(__name__)


class TrackingError(DmlError):
    """The tracking store cannot be opened."""

    exit_code = 6


def uri() -> str:
    """Address of the tracking store: MLFLOW_TRACKING_URI, or the local database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT


def database(place: str | None = None) -> Path | None:
    """Path of the SQLite file behind an address; None for a server or another database."""
    place = place or uri()
    return Path(place.removeprefix(_SQLITE)).absolute() if place.startswith(_SQLITE) else None


def artifact_root() -> Path | None:
    """Folder of the artifacts of a local store (beside its database); None where a server decides."""
    file = database()
    return file.parent / "artifacts" if file else None


def lock_folder() -> Path:
    """Folder of the locks of this store: beside a local database, so that all its users meet."""
    file = database()
    return file.parent / ".locks" if file else WORK / "locks"


def connect() -> "MlflowClient":
    """Open the store, created or upgraded if need be.

    Raises
    ------
    TrackingError
        If the server does not answer, or the database cannot be created, upgraded or read.
    """
    quiet()
    place = address()
    _prepare(place)
    _make_default(place)
    from mlflow import MlflowClient

    return MlflowClient(place, place)


def address() -> str:
    """Address of the store with an absolute path, as MLflow's processes in other folders need it."""
    file = database()
    return f"{_SQLITE}{file}" if file else uri()


def _make_default(address: str) -> None:
    """Make this the store of MLflow's own loading and logging functions, without its change to the environment."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


def pyfunc() -> ModuleType:
    """Import MLflow's model packaging without the warnings its own classes cause."""
    quiet()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
        import mlflow.pyfunc
    return mlflow.pyfunc


def quiet() -> None:
    """Import MLflow without telemetry, progress bars and schema chatter."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from sqlalchemy.exc import SADeprecationWarning

    with warnings.catch_warnings():
        # MLflow 3.17 declares its tables with a loader that SQLAlchemy 2.1 deprecates: nothing a user could act on
        warnings.simplefilter("ignore", SADeprecationWarning)
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    for name in ("mlflow.store.db.utils", "alembic", "mlflow.tracking.fluent", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.WARNING)


@functools.cache
def _prepare(address: str) -> None:
    """Check, and for a local database create, upgrade and relocate; once a process."""
    if address.startswith(("http://", "https://")):
        _check_server(address)
        return
    path = database(address)
    if path is None:
        return
    try:
        with only_writer("store", folder=path.parent / ".locks"):
            if path.exists():
                _relocate(path)
            _open(address)
    except (OSError, sqlite3.Error) as error:
        raise TrackingError(_message(address, error)) from None


def _message(address: str, error: object) -> str:
    return (
        f"tracking store {address}: {error}. Check MLFLOW_TRACKING_URI, or unset it to use {DEFAULT}; "
        "nothing was trained or written"
    )


def _check_server(address: str) -> None:
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=10):
            return
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise TrackingError(_message(address, error)) from None


def _open(address: str) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        mlflow.MlflowClient(address, address).search_experiments(max_results=1)
    except MlflowException as error:
        if "out-of-date database schema" not in str(error):
            raise TrackingError(_message(address, error)) from None
        _upgrade(address)
    except SQLAlchemyError as error:
        raise TrackingError(_message(address, error)) from None


def _upgrade(address: str) -> None:
    _log.warning("%s is of an older MLflow: upgrading its schema", address)
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrackingError(_message(address, done.stderr.strip().splitlines()[-1:]))


def _relocate(path: Path) -> None:
    """Rewrite absolute artifact paths if the folder of the database was moved since they were written."""
    here = str(path.parent / "artifacts")
    with sqlite3.connect(path, timeout=60) as connection:
        for old in _other_roots(connection, here):
            _log.warning("tracking store was moved: artifacts are now under %s, not %s", here, old)
            for table, column in _PLACES:
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )
    connection.close()


def _other_roots(connection: sqlite3.Connection, here: str) -> set[str]:
    """Artifact roots of our experiments other than the present one; ours are ``<root>/<experiment name>``."""
    present = connection.execute("select name from sqlite_master where name = 'experiments'").fetchone()
    rows = connection.execute("select name, artifact_location from experiments").fetchall() if present else []
    ours = {place.removesuffix(f"/{name}") for name, place in rows if place and place.endswith(f"/artifacts/{name}")}
    return ours - {here}


def experiment(client: "MlflowClient", name: str) -> str:
    """Return the id of an experiment, created if there is none of that name."""
    with only_writer("store", folder=lock_folder()):
        found = client.get_experiment_by_name(name)
        if found is not None:
            if KIND not in found.tags:
                client.set_experiment_tag(found.experiment_id, KIND, MODEL_TRAINING)
            return str(found.experiment_id)
        root = artifact_root()
        place = str(root / name) if root else None
        return str(client.create_experiment(name, artifact_location=place, tags={KIND: MODEL_TRAINING}))
