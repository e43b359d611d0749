"""What a person waits for: `dml --help`, a `dvc repro` that has nothing to do."""

import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import ROOT, command
from benchmarks.registry import Benchmark, Measured, NotHereError, register

BIN = Path(sys.executable).parent


def _help() -> Measured:
    return command([str(BIN / "dml"), "--help"])


def _no_op() -> Measured:
    """`--dry` looks at everything that a repro with nothing to do looks at, and can start nothing."""
    dvc = str(BIN / "dvc")
    done = subprocess.run([dvc, "repro", "--dry"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or "Running stage" in done.stdout:
        raise NotHereError("the pipeline is not up to date here: dvc repro first")
    return command([dvc, "repro", "--dry"])


GROUP = "9 commands"
register(Benchmark("dml --help", GROUP, _help))
register(Benchmark("dvc repro, nothing to do", GROUP, _no_op))
