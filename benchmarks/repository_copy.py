"""Copies of this repository in other folders, in which the pipeline can run without changing the working tree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measurement import ROOT
from benchmarks.registry import SkipBenchmark

BIN = Path(sys.executable).parent


def copy_repository(folder: Path) -> Path:
    """Copy the files that git tracks or would add, without generated ones; update an existing copy."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise SkipBenchmark("this is no git checkout, so there is nothing to copy")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run_command(folder, "git", "init", "-q")
    return folder


def run_command(folder: Path, *command: str) -> str:
    """Run a command in a copy, with the copy's tracking store, and return its standard output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    environment = {**inherited, "PATH": f"{BIN}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        output = (process.stderr or process.stdout).strip().splitlines()[-5:]
        raise RuntimeError(f"{' '.join(command)} in {folder} ended with {process.returncode}: {' | '.join(output)}")
    return process.stdout
