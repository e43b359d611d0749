"""Run the benchmarks: `python -m benchmarks [--full] [--only TEXT] [--dry]`; results go to docs and the history.

`--list` prints their names and measures nothing.
"""

import argparse
import sys

from benchmarks.machine import describe_machine
from benchmarks.measurement import run_in_process
from benchmarks.registry import Benchmark, benchmarks
from benchmarks.results_page import record


def main() -> int:
    """Measure, print and record; 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="also the long ones")
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose name or group contains TEXT")
    parser.add_argument("--dry", action="store_true", help="print only: leave docs/benchmarks.md and the history alone")
    parser.add_argument("--list", action="store_true", help="print the names of the benchmarks, measure nothing")
    options = parser.parse_args()
    selected = [b for b in benchmarks().values() if _is_selected(b, options.full or options.list, options.only)]
    if not selected:
        print(f"no benchmark of that name; known names: {', '.join(benchmarks())}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(b.name for b in selected))
        return 0
    results = {}
    for benchmark in selected:
        print(f"{benchmark.name}: ", end="", flush=True)
        results[benchmark.name] = run_in_process(benchmark.name)
        print(_format(results[benchmark.name]), flush=True)
    if not options.dry:
        record(selected, results, describe_machine())
    return int(any("failed" in result for result in results.values()))


def _is_selected(benchmark: Benchmark, full: bool, text: str) -> bool:
    return (full or not benchmark.full or bool(text)) and (text in benchmark.name or text in benchmark.group)


def _format(result: dict[str, object]) -> str:
    if "wall" not in result:
        return ", ".join(f"{key}: {value}" for key, value in result.items())
    wall, cpu, peak = (float(str(result[key])) for key in ("wall", "cpu", "peak"))
    return f"{wall:.4g} s ({cpu:.4g} s CPU), {peak / 2**20:.0f} MiB {result['figures'] or ''}"


if __name__ == "__main__":
    sys.exit(main())
