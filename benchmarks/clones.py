"""Copies of this repository in folders of their own, to run the pipeline in without touching what is here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import ROOT
from benchmarks.registry import NotHereError

BIN = Path(sys.executable).parent


def clone(folder: Path) -> Path:
    """Copy the files that git knows or would add, not what was computed; an older copy is brought up to date."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise NotHereError("this is no git checkout, so there is nothing to clone")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "-q")
    return folder


def run(folder: Path, *command: str) -> str:
    """Run a command of the README in a copy and return what it printed; its tracking store is the copy's own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    environment = {**inherited, "PATH": f"{BIN}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise RuntimeError(f"{' '.join(command)} in {folder} ended with {done.returncode}: {' | '.join(said)}")
    return done.stdout
