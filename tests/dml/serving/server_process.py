"""`dml serve` as a process, and a client that reports status, headers and content."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from dml.config.params import Params
from dml.core.files import write_json
from dml.registry import registration
from tests.trained_models import WIDTH, write_folds

NAME = "demo-survival-student"


@dataclass(frozen=True, slots=True)
class Server:
    """A process that serves, and its address."""

    process: subprocess.Popen[str]
    address: str

    def post(self, content: object, kind: str = "application/json") -> tuple[int, Message, Any]:
        """Send a body; return status, headers and parsed content."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return ask(urllib.request.Request(f"{self.address}/invocations", data, {"Content-Type": kind}))

    def memory_bytes(self) -> int:
        """Return the resident memory of the process."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def ask(request: urllib.request.Request) -> tuple[int, Message, Any]:
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


def rows(*names: str) -> dict[str, Any]:
    return {"dataframe_records": [{"patient_id": Path(name).stem, "path": name} for name in names]}


@pytest.fixture
def workplace_with_model(client: MlflowClient, params: Callable[..., Params], workplace: Path) -> Path:
    write_folds(Path("models/demo/survival/student"), "student", mpps=(0.5,))
    write_json(Path("reports/demo/survival/metrics.json"), {"student": {"c_index": {"value": 0.7}}})
    registration.register(params(), "survival", "student")
    (workplace / "features").mkdir()
    for i in range(8):
        tokens = np.random.default_rng(i).normal(size=(20 + i, WIDTH)).astype(np.float16)
        np.save(workplace / f"features/s{i}.npy", tokens)
    return workplace


@pytest.fixture
def server(workplace_with_model: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with options; all are ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> Server:
        words = ["serve", "--model", f"{NAME}@challenger", "--root", "features", "--port", "0", *options]
        command = [sys.executable, "-c", "from dml.cli import main; main()", *words]
        process = subprocess.Popen(command, cwd=workplace_with_model, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"(http://\S+)/invocations", line)
        assert found, line + process.stderr.read()
        return Server(process, found[1])

    yield start
    for process in started:
        process.kill()
        process.communicate()
