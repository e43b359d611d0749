"""The tracking store: MLflow's runs and registered models, in one SQLite file or at MLFLOW_TRACKING_URI.

`connect` is the only way in. It checks the address, creates or upgrades a local database once under a lock (of four
processes that open a new SQLite file together, three die), and lets a moved repository find its artifacts.
"""

import functools
import logging
import os
import re
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dml.core.errors import TrackingError
from dml.core.files import WORK, atomic, only_writer
from dml.tracking.relocation import relocate

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT = "sqlite:///mlruns/mlflow.db"
KIND, MODEL_TRAINING = "mlflow.experimentKind", "custom_model_development"
"""Tag by which MLflow's pages show runs and metrics of an experiment, not traces of language models."""
_SQLITE = "sqlite:///"
_ADDRESS = re.compile(r"https?://.+|(postgresql|mysql|mssql)(\+\w+)?://.+|sqlite:///.+")
_log = logging.getLogger(__name__)


def uri() -> str:
    """Address of the tracking store: MLFLOW_TRACKING_URI, or the local database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT


def database() -> Path | None:
    """Path of the SQLite file of the store; None for a server or another database."""
    return Path(uri().removeprefix(_SQLITE)).absolute() if uri().startswith(_SQLITE) else None


def artifact_root() -> Path | None:
    """Folder of the artifacts of a local store (beside its database); None where a server decides."""
    file = database()
    return file.parent / "artifacts" if file else None


def lock_folder() -> Path:
    """Folder of the locks of this store: beside a local database, so that all its users meet."""
    file = database()
    return file.parent / ".locks" if file else WORK / "locks"


def address() -> str:
    """Address of the store with an absolute path, as MLflow's processes in other folders need it."""
    file = database()
    return f"{_SQLITE}{file}" if file else uri()


def connect(must_exist: bool = False) -> "MlflowClient":
    """Open the store, created or upgraded if need be.

    Parameters
    ----------
    must_exist : bool
        For commands that only read: a database named in MLFLOW_TRACKING_URI is not created, so that a mistyped path is
        an error and not an empty list.

    Raises
    ------
    TrackingError
        If the address is not of a server or a database, the server does not answer or refuses us, or the database
        cannot be created, upgraded or read.
    """
    _check_address(must_exist)
    quiet()
    _prepare(address())
    _make_default(address())
    from mlflow import MlflowClient

    return MlflowClient(address(), address())


def _check_address(must_exist: bool) -> None:
    if not _ADDRESS.fullmatch(uri()):
        raise _unusable("not a server (http://host:port) or a database (sqlite:///folder/mlflow.db, postgresql://...)")
    file = database()
    if file is None or uri() == DEFAULT or file.exists():
        return
    if must_exist:
        raise _unusable(f"{file} does not exist")
    if not file.parent.is_dir():
        raise _unusable(f"the folder {file.parent} does not exist")
    _log.warning("MLFLOW_TRACKING_URI: %s does not exist yet and is created", file)


def _unusable(reason: object) -> TrackingError:
    return TrackingError(
        f"tracking store {_without_password(uri())}: {reason}. Correct MLFLOW_TRACKING_URI, or unset it to use "
        f"{DEFAULT}; nothing was trained or written"
    )


def _without_password(text: str) -> str:
    return re.sub(r"//([^:/@]+):[^@/]+@", r"//\1:***@", text)


def _make_default(address: str) -> None:
    """Make this the store of MLflow's own loading and logging functions, without its change to the environment."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


def download(source: str) -> Path:
    """Return the local folder of artifacts of this store, as ``models:/<name>/<version>``; they may be downloaded."""
    connect(must_exist=True)
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(source))


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
    """Check that the store answers; a local database is created, upgraded and relocated. Once a process."""
    path = database()
    if path is None:
        _check_server(address)
        return
    try:
        with only_writer("store", folder=path.parent / ".locks"):
            if path.exists():
                relocate(path)
            else:
                with atomic(path) as temporary:  # a process killed meanwhile must not leave half of the tables
                    _open(f"{_SQLITE}{temporary}")
            _open(address)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(error) from None


def _check_server(address: str) -> None:
    if address.startswith("http"):  # first, without the retries of MLflow's client
        try:
            with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=10):
                pass
        except (OSError, ValueError) as error:
            raise _unusable(error) from None
    _open(address)


def _open(address: str) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        mlflow.MlflowClient(address, address).search_experiments(max_results=1)
    except MlflowException as error:
        if "out-of-date database schema" in str(error):
            _upgrade(address)
        elif "Invalid Host header" in str(error):
            host = urlsplit(address).netloc.rpartition("@")[2]
            remedy = f"the server does not answer to the name {host}: add it to MLFLOW_SERVER_ALLOWED_HOSTS there"
            raise _unusable(remedy) from None
        else:
            raise _unusable(_without_password(str(error))) from None
    except (SQLAlchemyError, ImportError) as error:
        raise _unusable(_without_password(str(error).partition("\n")[0])) from None


def _upgrade(address: str) -> None:
    _log.warning("%s is of an older MLflow: upgrading its schema", address)
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _unusable(done.stderr.strip().splitlines()[-1:])


def experiment(client: "MlflowClient", name: str) -> str:
    """Return the id of an experiment, created if there is none of that name.

    Raises
    ------
    TrackingError
        If it was deleted in MLflow's pages.
    """
    with only_writer("store", folder=lock_folder()):
        present = find_experiment(client, name)
        if present is not None:
            return present
        root = artifact_root()
        location = str(root / name) if root else None
        return str(client.create_experiment(name, artifact_location=location, tags={KIND: MODEL_TRAINING}))


def find_experiment(client: "MlflowClient", name: str) -> str | None:
    """Return the id of an experiment, None if there is none of that name.

    Raises
    ------
    TrackingError
        If it was deleted in MLflow's pages.
    """
    present = client.get_experiment_by_name(name)
    if present is None:
        return None
    if present.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment {name} was deleted in MLflow. Restore it with its runs: "
            f"MLFLOW_TRACKING_URI={_without_password(address())} mlflow experiments restore "
            f"--experiment-id {present.experiment_id} (or delete it for good with mlflow gc)"
        )
    return str(present.experiment_id)
