"""Machine and software versions of a benchmark run."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.measurement import ROOT

PACKAGES = ("torch", "numpy", "pyarrow", "pandas", "dvc", "mlflow-skinny")


def describe_machine() -> dict[str, str]:
    """Return commit (with + where the tree differs from it), time, processor, cores, load and versions."""
    return {
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else ""),
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **{name.removesuffix("-skinny"): version(name) for name in PACKAGES},
    }


def _git(*arguments: str) -> str:
    process = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return process.stdout.strip()


def _processor() -> str:
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    amx = " with AMX" if "amx_bf16" in fields.get("flags", "") else ""
    return f"{fields.get('model name', platform.processor())}{amx}"
