"""Run the benchmarks: `python -m benchmarks [--full] [--only TEXT] [--dry]`; results go to docs and the history."""

import argparse
import sys

from benchmarks.machine import describe
from benchmarks.measuring import in_fresh_process
from benchmarks.recording import record
from benchmarks.registry import Benchmark, benchmarks


def main() -> int:
    """Measure, print and record; 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="also the long ones")
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose name or group contains TEXT")
    parser.add_argument("--dry", action="store_true", help="print only: leave docs/benchmarks.md and the history alone")
    options = parser.parse_args()
    chosen = [b for b in benchmarks().values() if _wanted(b, options.full, options.only)]
    if not chosen:
        print(f"no benchmark of that name; there are: {', '.join(benchmarks())}", file=sys.stderr)
        return 2
    found = {}
    for benchmark in chosen:
        print(f"{benchmark.name}: ", end="", flush=True)
        found[benchmark.name] = in_fresh_process(benchmark.name)
        print(_line(found[benchmark.name]), flush=True)
    if not options.dry:
        record(chosen, found, describe())
    return int(any("failed" in one for one in found.values()))


def _wanted(benchmark: Benchmark, full: bool, text: str) -> bool:
    return (full or not benchmark.full or bool(text)) and (text in benchmark.name or text in benchmark.group)


def _line(found: dict[str, object]) -> str:
    if "wall" not in found:
        return ", ".join(f"{key}: {value}" for key, value in found.items())
    wall, cpu, peak = (float(str(found[key])) for key in ("wall", "cpu", "peak"))
    return f"{wall:.4g} s ({cpu:.4g} s CPU), {peak / 2**20:.0f} MiB {found['figures'] or ''}"


if __name__ == "__main__":
    sys.exit(main())
