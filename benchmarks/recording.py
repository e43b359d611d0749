"""Write results into docs/benchmarks.md (between two markers) and append them to the history.

The history is a list of flat objects, one a run, in units of the matrix product, so that machines compare:
`dvc plots show benchmarks/history.json -x time -y "teacher step, B = 1"`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measuring import ROOT
from benchmarks.registry import Benchmark

PAGE, HISTORY = ROOT / "docs" / "benchmarks.md", ROOT / "benchmarks" / "history.json"
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
Found = Mapping[str, Any]


def record(chosen: Sequence[Benchmark], found: Mapping[str, Found], machine: Mapping[str, str]) -> None:
    """Update the page and the history; benchmarks that were not run this time keep their line."""
    runs: list[dict[str, Any]] = json.loads(HISTORY.read_text()) if HISTORY.exists() else []
    units = {b.name: round(_units(found[b.name]), 3) for b in chosen if "cpu" in found[b.name]}
    runs.append({"time": machine["time"], "commit": machine["commit"], "load": machine["load"], **units})
    HISTORY.write_text(json.dumps(runs, indent=1) + "\n")
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    old, _, after = rest.partition(END)
    lines = _lines(old) | {b.name: line(b, found[b.name]) for b in chosen}
    PAGE.write_text(f"{before}{START}\n{_tables(lines, machine)}{END}{after}")


def line(benchmark: Benchmark, found: Found) -> str:
    """One row of the table."""
    if "wall" not in found:
        said = next(f"{key}: {value}" for key, value in found.items())
        return f"| {benchmark.name} | {benchmark.group} | | | | | | | {said} |"
    wanted = [(benchmark.seconds, "s"), (benchmark.gigabytes, "GB")]
    target = ", ".join(f"{value:g} {unit}" for value, unit in wanted if value is not None)
    figures = ", ".join(f"{name} {value:,.4g}" for name, value in found["figures"].items())
    memory = f"{found['peak'] / 1e9:.2f} GB" if found["peak"] > 5e6 else ""
    cells = [_seconds(found["wall"]), _seconds(found["cpu"]), f"{_units(found):.2f}", memory, target]
    return f"| {benchmark.name} | {benchmark.group} | {' | '.join(cells)} | {benchmark.reference} | {figures} |"


def _units(found: Found) -> float:
    return float(found["cpu"] / found["product_cpu"])


def _seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _lines(old: str) -> dict[str, str]:
    rows = [row for row in old.splitlines() if row.startswith("| ") and not row.startswith("| benchmark ")]
    return {row.split("|")[1].strip(): row for row in rows}


def _tables(lines: Mapping[str, str], machine: Mapping[str, str]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    head = (
        "| benchmark | group | wall | CPU | products | memory | target | authors' code | figures |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    rows = sorted(lines.values(), key=lambda row: row.split("|")[2])
    return f"\nLast run: {facts}. Lines it did not measure are of earlier runs.\n\n{head}\n" + "\n".join(rows) + "\n\n"
