"""Time and memory of one benchmark, in this process or in a fresh one.

Wall time is what a person waits for; CPU time of the process does not grow when others use the machine, so it stands
beside it. Both are medians of repeats. The unit for comparing machines is a 2048^3 float32 matrix product in the same
process with the same threads.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.registry import Measurement

ROOT = Path(__file__).resolve().parents[1]
MATRIX_SIZE = 2048


def time_repeats(
    work: Callable[[], Any], repeats: int = 5, warm: int = 1, max_seconds: float = 20.0, **figures: float
) -> Measurement:
    """Return the median wall and CPU time of a function, stopping early once `max_seconds` seconds are spent."""
    for _ in range(warm):
        work()
    walls, cpus, start = [], [], time.perf_counter()
    while len(walls) < repeats and (len(walls) < 1 or time.perf_counter() - start < max_seconds):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Measurement(statistics.median(walls), statistics.median(cpus), figures)


def read_cpu_seconds() -> float:
    """Return the CPU time of this process and of its finished child processes."""
    return sum(os.times()[:4])


def time_command(arguments: list[str], cwd: Path = ROOT, repeats: int = 3) -> Measurement:
    """Return the median wall and CPU time of a command; the first run fills the caches and is not counted."""
    walls, cpus = [], []
    for _ in range(repeats + 1):
        wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(arguments, cwd=cwd, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - wall)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Measurement(statistics.median(walls[1:]), statistics.median(cpus[1:]))


def time_matrix_product() -> Measurement:
    """Time the unit: a 2048^3 float32 matrix product."""
    import torch

    left, right = torch.randn(MATRIX_SIZE, MATRIX_SIZE), torch.randn(MATRIX_SIZE, MATRIX_SIZE)
    return time_repeats(lambda: left @ right, repeats=5, warm=2)


def read_peak_bytes() -> int:
    """Return the largest resident memory since `reset_peak_bytes`."""
    return _read_status("VmHWM")


def reset_peak_bytes() -> int:
    """Reset the peak of the resident memory, and return its present size."""
    Path("/proc/self/clear_refs").write_text("5")
    return _read_status("VmRSS")


def _read_status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def run_in_process(name: str, timeout: float = 3600.0) -> dict[str, Any]:
    """Measure one benchmark in a process of its own.

    Returns
    -------
    dict
        wall, cpu (s), product_wall, product_cpu (s), peak (bytes above start), figures; or skipped with its reason, or
        failed with the last line of its error output.
    """
    arguments = [sys.executable, "-m", "benchmarks.worker", name]
    try:
        process = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished after {timeout:.0f} s"}
    lines = process.stdout.strip().splitlines()
    if process.returncode or not lines:
        return {"failed": (process.stderr.strip().splitlines() or ["no output"])[-1]}
    result: dict[str, Any] = json.loads(lines[-1])
    return result
