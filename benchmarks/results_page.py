"""Write results into docs/benchmarks.md (between two markers, a table for each group) and append them to the history.

The history is a list of flat objects, one a run, in units of the matrix product, so that machines compare:
`dvc plots show benchmarks/history.json -x time -y "teacher step, B = 1"`.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measurement import ROOT
from benchmarks.registry import Benchmark

PAGE, HISTORY = ROOT / "docs" / "benchmarks.md", ROOT / "benchmarks" / "history.json"
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
COLUMNS = ("wall", "CPU", "products", "memory", "target", "authors' code", "figures")
Result = Mapping[str, Any]
Row = tuple[str, Mapping[str, str]]
"""Group of a benchmark, and its cells by column."""


def record(selected: Sequence[Benchmark], results: Mapping[str, Result], machine: Mapping[str, str]) -> None:
    """Update the page and the history; rows of benchmarks that were not run stay as they are."""
    runs: list[dict[str, Any]] = json.loads(HISTORY.read_text()) if HISTORY.exists() else []
    units = {b.name: round(_products(results[b.name]), 3) for b in selected if "cpu" in results[b.name]}
    runs.append({"time": machine["time"], "commit": machine["commit"], "load": machine["load"], **units})
    HISTORY.write_text(json.dumps(runs, indent=1) + "\n")
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    old, _, after = rest.partition(END)
    rows = _parse_rows(old) | {b.name: (b.group, format_cells(b, results[b.name])) for b in selected}
    PAGE.write_text(f"{before}{START}\n{_format_tables(rows, machine)}{END}{after}")


def format_cells(benchmark: Benchmark, result: Result) -> dict[str, str]:
    """Return the cells of one row by column."""
    if "wall" not in result:
        return {"figures": next(f"{key}: {value}" for key, value in result.items())}
    targets = [(benchmark.seconds, "s"), (benchmark.gigabytes, "GB")]
    return {
        "wall": _format_seconds(result["wall"]),
        "CPU": _format_seconds(result["cpu"]),
        "products": f"{_products(result):.2f}",
        "memory": f"{result['peak'] / 1e9:.2f} GB" if result["peak"] > 5e6 else "",
        "target": ", ".join(f"{value:g} {unit}" for value, unit in targets if value is not None),
        "authors' code": benchmark.reference,
        "figures": ", ".join(f"{name} {value:,.4g}" for name, value in result["figures"].items()),
    }


def _products(result: Result) -> float:
    return float(result["cpu"] / result["product_cpu"])


def _format_seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _parse_rows(old: str) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    group, columns = "", list[str]()
    for line in old.splitlines():
        name, *cells = [cell.strip() for cell in line[1:-1].split("|")]
        if line.startswith("### "):
            group = line.removeprefix("### ")
        elif line.startswith("| benchmark "):
            columns = cells
        elif line.startswith("| "):
            rows[name] = (group, dict(zip(columns, cells, strict=True)))
    return rows


def _format_tables(rows: Mapping[str, Row], machine: Mapping[str, str]) -> str:
    fields = ", ".join(f"{name} {value}" for name, value in machine.items())
    note = textwrap.fill(f"Last run: {fields}. Rows it did not measure are of earlier runs.", 100)
    groups = sorted({group for group, _ in rows.values()})
    return "\n".join(["", note, "", *(_format_group(name, rows) for name in groups)])


def _format_group(name: str, rows: Mapping[str, Row]) -> str:
    """Format the rows of a group; columns that are empty in all of them are left out."""
    cells = {benchmark: row for benchmark, (group, row) in rows.items() if group == name}
    columns = [column for column in COLUMNS if any(row.get(column) for row in cells.values())]
    lines = [("benchmark", *columns), *((key, *(row.get(c, "") for c in columns)) for key, row in cells.items())]
    head, *table = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([f"### {name}", "", head, "|---" * (len(columns) + 1) + "|", *table, ""])
