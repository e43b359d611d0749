"""Write results into docs/benchmarks.md (between two markers) and append them to the history.

The history is a list of flat objects, one a run, in units of the matrix product, so that machines compare:
`dvc plots show benchmarks/history.json -x time -y "teacher step, B = 1"`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measurement import ROOT
from benchmarks.registry import Benchmark

PAGE, HISTORY = ROOT / "docs" / "benchmarks.md", ROOT / "benchmarks" / "history.json"
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
Result = Mapping[str, Any]


def record(selected: Sequence[Benchmark], results: Mapping[str, Result], machine: Mapping[str, str]) -> None:
    """Update the page and the history; lines of benchmarks that were not run stay as they are."""
    runs: list[dict[str, Any]] = json.loads(HISTORY.read_text()) if HISTORY.exists() else []
    units = {b.name: round(_products(results[b.name]), 3) for b in selected if "cpu" in results[b.name]}
    runs.append({"time": machine["time"], "commit": machine["commit"], "load": machine["load"], **units})
    HISTORY.write_text(json.dumps(runs, indent=1) + "\n")
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    old, _, after = rest.partition(END)
    lines = _parse_rows(old) | {b.name: format_row(b, results[b.name]) for b in selected}
    PAGE.write_text(f"{before}{START}\n{_format_table(lines, machine)}{END}{after}")


def format_row(benchmark: Benchmark, result: Result) -> str:
    """Return one row of the table."""
    if "wall" not in result:
        reason = next(f"{key}: {value}" for key, value in result.items())
        return f"| {benchmark.name} | {benchmark.group} | | | | | | | {reason} |"
    targets = [(benchmark.seconds, "s"), (benchmark.gigabytes, "GB")]
    target = ", ".join(f"{value:g} {unit}" for value, unit in targets if value is not None)
    figures = ", ".join(f"{name} {value:,.4g}" for name, value in result["figures"].items())
    memory = f"{result['peak'] / 1e9:.2f} GB" if result["peak"] > 5e6 else ""
    cells = [
        _format_seconds(result["wall"]),
        _format_seconds(result["cpu"]),
        f"{_products(result):.2f}",
        memory,
        target,
    ]
    return f"| {benchmark.name} | {benchmark.group} | {' | '.join(cells)} | {benchmark.reference} | {figures} |"


def _products(result: Result) -> float:
    return float(result["cpu"] / result["product_cpu"])


def _format_seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _parse_rows(old: str) -> dict[str, str]:
    rows = [row for row in old.splitlines() if row.startswith("| ") and not row.startswith("| benchmark ")]
    return {row.split("|")[1].strip(): row for row in rows}


def _format_table(lines: Mapping[str, str], machine: Mapping[str, str]) -> str:
    fields = ", ".join(f"{name} {value}" for name, value in machine.items())
    head = (
        "| benchmark | group | wall | CPU | products | memory | target | authors' code | figures |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    rows = sorted(lines.values(), key=lambda row: row.split("|")[2])
    return f"\nLast run: {fields}. Lines it did not measure are of earlier runs.\n\n{head}\n" + "\n".join(rows) + "\n\n"
