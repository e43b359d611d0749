"""``dml results``: what came out, and where to look further."""

import typer

from dml.cli.output import Json, note, show


def results(as_json: Json = False) -> None:
    """Show the metrics of all reports, the registered versions, and the commands to look further."""
    from dml.ops.leaderboard import registered_rows, reports

    found = reports()
    if as_json:
        rows = [{"cohort": r.cohort, "task": r.task, **row} for r in found for row in r.rows]
        show(rows, as_json)
        return
    for report in found:
        show(report.rows, as_json, f"{report.cohort}, {report.task}")
    show(registered_rows(), as_json, "registered models")
    if not found:
        note("no report yet: dvc repro")
        raise typer.Exit(1)
    for line in _next(registered_rows()):
        typer.echo(line)


def _next(registered: list[dict[str, object]]) -> list[str]:
    name = registered[-1]["name"] if registered else "<name>"
    return [
        "",
        "look further:",
        "  make ui                       runs and models in MLflow",
        "  dml registry ls               versions, aliases, metrics",
        f"  dml promote {name}",
        f"  dml predict --model {name}@challenger --slides data/raw/demo/slides --out predictions.csv",
        "  dvc repro                     does nothing until something changes",
    ]
