"""The web pages to look at runs, models and studies: MLflow's and Optuna's own, bound to this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dml.core.errors import DmlError, InputError, listed
from dml.tracking import store, ui_pages

HOST = "127.0.0.1"
ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore:starlette.middleware.wsgi is deprecated",
}
"""Two processes instead of ten, nothing is sent anywhere, and what a user cannot act on is not printed."""
MODEL_TRAINING = "#/experiments?workflowType=machine_learning"
"""Page of runs and metrics: MLflow opens with traces of language models otherwise."""
QUIET = ("--uvicorn-opts", "--log-level warning")
"""Otherwise every click is a line in the terminal."""


@dataclass(frozen=True, slots=True)
class Command:
    """A server to start, the port it listens on, its first page, and pages prepared for something, by name."""

    words: tuple[str, ...]
    port: int
    page: str = ""
    prepared: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where a browser finds its first page."""
        return self.at(self.page)

    def at(self, page: str) -> str:
        """Where a browser finds a page."""
        return f"http://{HOST}:{self.port}/{page}"


def commands(port: int, study: str | None = None, studies: Path = Path("studies")) -> dict[str, Command]:
    """Which servers to start for the stores that exist; a remote tracking server needs none.

    The dashboard shows one storage: that of `study` (a name or a database URL), or the one written to last.

    Raises
    ------
    TrackingError
        If the store cannot be opened.
    InputError
        If there is no such study.
    """
    servers: dict[str, Command] = {}
    client = store.connect(must_exist=True)
    root = store.artifact_root()
    if root is not None:
        stores = ("--backend-store-uri", store.address(), "--default-artifact-root", str(root))
        words = (sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1")
        servers["MLflow"] = Command((*words, *QUIET, *stores), port, MODEL_TRAINING, ui_pages.pages(client))
    storage = _study_storage(study, studies)
    if storage is not None:
        program = str(Path(sys.executable).with_name("optuna-dashboard"))
        dashboard = (program, storage, "--host", HOST, "--port", str(port + 1))
        servers["Optuna dashboard"] = Command(dashboard, port + 1)
    return servers


def _study_storage(study: str | None, studies: Path) -> str | None:
    if study is not None and "://" in study:
        return study
    journals = {path.stem: path for path in sorted(studies.glob("*.journal"))}
    if study is not None and study not in journals:
        raise InputError(study, "no such study", f"In {studies}/ there are: {listed(list(journals), 20) or 'none'}")
    if not journals:
        return None
    return str(journals[study] if study else max(journals.values(), key=lambda path: path.stat().st_mtime))


def serve(servers: Mapping[str, Command]) -> None:
    """Run the servers until one ends, or the user interrupts or ends this process; none is left behind.

    Raises
    ------
    DmlError
        If a server ends by itself: its port is taken, most likely.
    """
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | ENVIRONMENT | {"PATH": programs}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = {name: subprocess.Popen(command.words, env=environment) for name, command in servers.items()}
    try:
        while all(process.poll() is None for process in running.values()) and running:
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait(timeout=30)
    ended = [f"{name} (port {servers[name].port})" for name, process in running.items() if process.returncode]
    if ended:
        raise DmlError(f"{', '.join(ended)} ended: is the port taken? Try another: dml ui --port <number>")
