"""Commands that a person waits for: `dml --help`, a `dvc repro` with nothing to do, the whole demo."""

import tempfile
import time
from pathlib import Path

from benchmarks.measurement import read_cpu_seconds, time_command
from benchmarks.registry import Benchmark, Measurement, register
from benchmarks.repository_copy import BIN, copy_repository, run_command

FILES = 80
"""Files in the placeholder of a folder, about as many as the demo has slides."""


def _time_help() -> Measurement:
    return time_command([str(BIN / "dml"), "--help"])


def _time_no_op() -> Measurement:
    """Time DVC alone, in a copy whose outputs are placeholders committed as up to date."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_repository(Path(folder))
        stages = write_placeholders(copy)
        run_command(copy, "dvc", "commit", "-f")
        if "up to date" not in run_command(copy, "dvc", "repro"):
            raise RuntimeError("dvc repro has something to do in a copy that is up to date")
        result = time_command([str(BIN / "dvc"), "repro"], cwd=copy)
        return Measurement(result.wall_s, result.cpu_s, {"stages": stages})


def write_placeholders(copy: Path) -> int:
    """Write a placeholder for each input and output of a stage; return the number of stages."""
    from dvc.repo import Repo

    with Repo(str(copy)) as repo:
        paths = [Path(item.fs_path) for item in [*repo.index.outs, *repo.index.deps] if item.protocol == "local"]
        stages = len(repo.index.stages)
    for path in paths:
        if not path.exists():
            files = [path] if path.suffix else [path / f"{i}.bin" for i in range(FILES)]
            for i, file in enumerate(files):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{i}\n")
    return stages


def _time_demo() -> Measurement:
    """`make demo` in a copy, without the installation."""
    with tempfile.TemporaryDirectory() as folder:
        copy, wall, cpu = copy_repository(Path(folder)), time.perf_counter(), read_cpu_seconds()
        run_command(copy, "dml", "cohort", "use", "demo")
        run_command(copy, "dml", "cohort", "demo")
        run_command(copy, "dvc", "repro")
        run_command(copy, "dml", "results")
        return Measurement(time.perf_counter() - wall, read_cpu_seconds() - cpu)


GROUP = "9 commands"
register(Benchmark("dml --help", GROUP, _time_help))
register(Benchmark("dvc repro, nothing to do", GROUP, _time_no_op))
register(Benchmark("make demo", GROUP, _time_demo, full=True))
