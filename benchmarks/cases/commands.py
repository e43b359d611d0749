"""What a person waits for: `dml --help`, a `dvc repro` that has nothing to do, the demo from slides to the registry."""

import tempfile
import time
from pathlib import Path

from benchmarks.clones import BIN, clone, run
from benchmarks.measuring import command, cpu_seconds
from benchmarks.registry import Benchmark, Measured, register

FILES = 80
"""In a placeholder of a folder: as many as the demo has slides."""


def _help() -> Measured:
    return command([str(BIN / "dml"), "--help"])


def _no_op() -> Measured:
    """Time DVC alone: in a copy whose outputs are placeholders that are declared to be up to date."""
    with tempfile.TemporaryDirectory() as folder:
        place = clone(Path(folder))
        stages = fill(place)
        run(place, "dvc", "commit", "-f")
        if "up to date" not in run(place, "dvc", "repro"):
            raise RuntimeError("dvc repro found something to do in a copy that is up to date")
        found = command([str(BIN / "dvc"), "repro"], cwd=place)
        return Measured(found.wall, found.cpu, {"stages": stages})


def fill(place: Path) -> int:
    """Put something wherever a stage reads or writes; returns how many stages there are."""
    from dvc.repo import Repo

    with Repo(str(place)) as repo:
        wanted = [Path(item.fs_path) for item in [*repo.index.outs, *repo.index.deps] if item.protocol == "local"]
        stages = len(repo.index.stages)
    for path in wanted:
        if not path.exists():
            files = [path] if path.suffix else [path / f"{i}.bin" for i in range(FILES)]
            for i, file in enumerate(files):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{i}\n")
    return stages


def _demo() -> Measured:
    """`make demo` in a copy, without the installation."""
    with tempfile.TemporaryDirectory() as folder:
        place, wall, cpu = clone(Path(folder)), time.perf_counter(), cpu_seconds()
        run(place, "dml", "cohort", "use", "demo")
        run(place, "dml", "cohort", "demo")
        run(place, "dvc", "repro")
        run(place, "dml", "results")
        return Measured(time.perf_counter() - wall, cpu_seconds() - cpu)


GROUP = "9 commands"
register(Benchmark("dml --help", GROUP, _help))
register(Benchmark("dvc repro, nothing to do", GROUP, _no_op))
register(Benchmark("make demo", GROUP, _demo, full=True))
