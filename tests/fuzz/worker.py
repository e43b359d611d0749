"""Fuzz one group of readers in a process with a memory limit: ``python -m tests.fuzz.worker <group> <cases> <seed>``.

Prints one JSON object: the cases of each reader, how many were read and refused, the slowest, and what broke the rule.
A case that takes longer than `LIMIT_S` ends the process with a traceback; the spoiled files are left in the folder.
"""

import faulthandler
import json
import logging
import re
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dml.core import limits
from dml.core.errors import DmlError
from tests.fuzz.targets import GROUPS, Case

LIMIT_S = 20.0
MEMORY = 3 * 2**30
"""Address space of the process, which has its libraries in it, too."""


def fuzz(name: str, case: Case, cases: int, start: int, work: Path) -> dict[str, Any]:
    """Run the cases of one reader; what breaks the rule is listed once a kind, with its files put aside."""
    counts = {"read": 0, "refused": 0}
    slowest = 0.0
    broken: dict[str, str] = {}

    @seed(start)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        nonlocal slowest
        folder = work / "case"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        read = case(data.draw, folder)
        began = time.perf_counter()
        problem, kind = "", "names no file"
        try:
            read()
            counts["read"] += 1
        except DmlError as error:
            counts["refused"] += 1
            files = [path.name for path in folder.rglob("*")]
            if not any(file in str(error) for file in (*files, folder.name)):
                problem = f"names no file: {error}"
        except BaseException as error:  # noqa: BLE001  that nothing else is raised is what is tested
            problem = "".join(traceback.format_exception(error)[-6:])
            kind = _place(error)
        faulthandler.cancel_dump_traceback_later()
        slowest = max(slowest, time.perf_counter() - began)
        if problem and kind not in broken:
            broken[kind] = problem
            shutil.copytree(folder, work / f"broken-{name}-{len(broken)}", dirs_exist_ok=True)

    run()
    return {"cases": cases, **counts, "slowest_s": round(slowest, 3), "broken": list(broken.values())}


def _place(error: BaseException) -> str:
    """Return the error's type and the last line of this project that it passed: faults there are one."""
    lines = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__) if "/dml/" in f.filename]
    return f"{type(error).__name__} {lines[-1] if lines else ''}"


def peak_memory() -> int:
    """Most bytes this program held; `ru_maxrss` would count those of the process that started it, too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def main(group: str, cases: int, start: int, work: Path) -> None:
    logging.disable()
    warnings.simplefilter("ignore")
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    limits.apply(limits.Limits(reader_gb=1.5))  # of the processes that read slides and HDF5
    work.mkdir(parents=True, exist_ok=True)
    results = {}
    for name, case in GROUPS[group].items():
        sys.stderr.write(f"{name}, seed {start}, files in {work}\n")
        results[name] = fuzz(name, case, cases, start, work)
    peak = peak_memory()
    sys.stdout.write(json.dumps({"readers": results, "peak_bytes": peak}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
