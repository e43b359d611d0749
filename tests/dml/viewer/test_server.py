"""``dml view`` as a process: the address it prints works, on this machine only, and Ctrl+C ends it."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dml.core.errors import DmlError
from dml.data.cohort_store import CohortStore
from dml.viewer.server import bind
from tests.dml.viewer.conftest import ensemble

ROOT = Path(__file__).resolve().parents[3]


def test_only_loopback_is_bound_and_a_taken_port_is_named() -> None:
    with bind(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        port = listener.getsockname()[1]
        with pytest.raises(DmlError, match=f"port {port} cannot be used .* --port"):
            bind(port)


def test_the_printed_address_opens_the_slides(store: CohortStore, tmp_path: Path) -> None:
    for number, fold in enumerate(ensemble().folds):
        fold.save(tmp_path / f"fold-{number}")
    command = [
        sys.executable,
        "-c",
        "from dml.cli import main; main()",
        "view",
        "--model",
        str(tmp_path),
        "--cohort",
        "synthetic",
    ]
    process = subprocess.Popen(
        [*command, "--port", "0", "--no-browser"],
        cwd=store.folder.parents[1], stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        address = urlsplit(next(line.strip() for line in lines if line.startswith("http")))
        assert address.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=30)
        connection.request("GET", "/api/slides")
        refused = connection.getresponse()
        assert (refused.status, b"P0" in refused.read()) == (403, False)
        connection.request("GET", f"/?{address.query}")
        entered = connection.getresponse()
        entered.read()
        cookie = str(entered.getheader("set-cookie")).partition(";")[0]
        connection.request("GET", "/api/slides", headers={"Cookie": cookie})
        assert b'"synthetic"' in connection.getresponse().read()
        connection.close()
        with socket.socket() as other, pytest.raises(OSError, match="refused"):
            other.connect(("127.0.0.2", address.port or 0))
    finally:
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    assert "Traceback" not in rest
