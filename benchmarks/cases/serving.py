"""The HTTP server under eight clients at once: waiting times, CPU seconds of a request, memory over many of them."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.registered_model import FEATURES, NAME, SLIDE, write_inputs, write_registered_model
from benchmarks.registry import Benchmark, Measurement, register

GROUP = "12 serving"
CLIENTS = 8


@dataclass(frozen=True, slots=True)
class _Server:
    """A server process, its address, and how long it took to start."""

    pid: int
    address: str
    start_s: float

    def predict(self, file: str, patient: str) -> float:
        """Send one request; return the seconds until the answer."""
        body = json.dumps({"dataframe_records": [{"patient_id": patient, "path": file}]}).encode()
        head = {"Content-Type": "application/json"}
        start = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(self.address, body, head), timeout=600) as response:
            (row,) = json.load(response)["predictions"]
        if row["status"] != "ok":
            raise RuntimeError(f"{file} was refused: {row['reason']}")
        return time.perf_counter() - start

    @property
    def cpu_s(self) -> float:
        """CPU time of the process and of the one that it reads slides in."""
        pids = [self.pid, *map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())]
        ticks = [sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) for pid in pids]
        return sum(ticks) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_mb(self) -> float:
        """Resident memory of the process."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def _serve() -> Iterator[_Server]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_registered_model(folder)
        write_inputs(folder)
        words = ["serve", "--model", f"{NAME}@challenger", "--port", "0"]
        command = [sys.executable, "-c", "from dml.cli import main; main()", *words]
        start = time.perf_counter()
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            line = process.stderr.readline()
            address = re.search(r"http://\S+", line)
            try:
                if address is None:
                    raise RuntimeError(line + process.stderr.read())
                yield _Server(process.pid, address[0], time.perf_counter() - start)
            finally:
                process.kill()


def _time_clients(file: str, requests: int, clients: int = CLIENTS) -> Callable[[], Measurement]:
    def run() -> Measurement:
        with _serve() as server, ThreadPoolExecutor(clients) as pool:
            server.predict(file, "warm")
            cpu, memory, wall = server.cpu_s, server.resident_mb, time.perf_counter()
            waits = list(pool.map(lambda i: server.predict(file, f"P{i}"), range(requests)))
            wall = time.perf_counter() - wall
            figures = {
                "start s": server.start_s,
                "p50 s": float(np.percentile(waits, 50)),
                "p95 s": float(np.percentile(waits, 95)),
                "MB more at the end": server.resident_mb - memory,
            }
            return Measurement(wall / requests, (server.cpu_s - cpu) / requests, figures)

    return run


register(Benchmark("server, one client, feature file", GROUP, _time_clients(FEATURES, 100, 1)))
register(Benchmark("server, one client, slide of 64 tiles", GROUP, _time_clients(SLIDE, 10, 1)))
register(Benchmark("server, 8 clients, feature file", GROUP, _time_clients(FEATURES, 1_000)))
register(Benchmark("server, 8 clients, slide of 64 tiles", GROUP, _time_clients(SLIDE, 40)))
