"""Time and memory of one benchmark, in this process or in a fresh one.

Wall time is what a person waits for; CPU time of the process does not grow when others use the machine, so it stands
beside it. Both are medians of repeats. A 2048^3 float32 matrix product of the same process and threads is the unit that
machines compare in.
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

from benchmarks.registry import Measured

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = 2048


def repeated(
    work: Callable[[], Any], repeats: int = 5, warm: int = 1, at_most: float = 20.0, **figures: float
) -> Measured:
    """Median wall and CPU time of a piece of work, stopping early once `at_most` seconds are spent."""
    for _ in range(warm):
        work()
    walls, cpus, start = [], [], time.perf_counter()
    while len(walls) < repeats and (len(walls) < 1 or time.perf_counter() - start < at_most):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Measured(statistics.median(walls), statistics.median(cpus), figures)


def cpu_seconds() -> float:
    """CPU time of this process and of those it started and waited for."""
    return sum(os.times()[:4])


def command(arguments: list[str], cwd: Path = ROOT, repeats: int = 3) -> Measured:
    """Median wall and CPU time of a command; the first run fills the caches and does not count."""
    walls, cpus = [], []
    for _ in range(repeats + 1):
        wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(arguments, cwd=cwd, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - wall)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Measured(statistics.median(walls[1:]), statistics.median(cpus[1:]))


def product() -> Measured:
    """Time the unit: a 2048^3 float32 matrix product."""
    import torch

    left, right = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT)
    return repeated(lambda: left @ right, repeats=5, warm=2)


def peak_bytes() -> int:
    """Most memory the process has held since `forget_peak`."""
    return _status("VmHWM")


def forget_peak() -> int:
    """Start counting the peak anew, and return what is held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def in_fresh_process(name: str, timeout: float = 3600.0) -> dict[str, Any]:
    """Measure one benchmark in a process of its own.

    Returns
    -------
    dict
        wall, cpu (s), product_wall, product_cpu (s), peak (bytes above start), figures; or skipped with its reason, or
        failed with the last line of what it said.
    """
    arguments = [sys.executable, "-m", "benchmarks.worker", name]
    try:
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {timeout:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found
