"""``dml results``: metrics, registered versions, costs."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, note, show


def results(
    as_json: Json = False,
    costs: Annotated[bool, typer.Option("--costs", help="Show what training took: time and memory.")] = False,
) -> None:
    """Show the metrics of all reports, the registered versions, and the commands to look further."""
    from dml.cli.result_rows import metric_rows, numbers, registered_rows, reports
    from dml.tracking.costs import cost_rows

    evaluated = reports()
    if costs:
        costs_of = {(r.cohort, r.task): cost_rows(r.cohort, r.task) for r in evaluated}
        if as_json:
            show([{"cohort": c, "task": t, **row} for (c, t), rows in costs_of.items() for row in rows], as_json)
            return
        for (cohort, task), rows in costs_of.items():
            show(rows, as_json, f"{cohort}, {task}: training of all folds")
        return
    if as_json:
        rows = [{"cohort": r.cohort, "task": r.task, **row} for r in evaluated for row in numbers(r.metrics)]
        show(rows, as_json)
        return
    for report in evaluated:
        show(metric_rows(report.metrics), as_json, f"{report.cohort}, {report.task}")
    registered = registered_rows()
    show(registered, as_json, "registered models")
    if not evaluated:
        note("no report yet: dvc repro")
        raise typer.Exit(1)
    pages = [f"reports/{report.cohort}/{report.task}/report.html" for report in evaluated]
    for line in _next_commands([str(row["name"]) for row in registered], pages):
        typer.echo(line)


def _next_commands(names: list[str], pages: list[str]) -> list[str]:
    name = next((name for name in names if name.endswith("survival-student")), names[0] if names else "<name>")
    cohort = name.rsplit("-", 2)[0]
    slides = Path("data/raw") / cohort / "slides"
    source = slides if slides.exists() else Path("data") / cohort / "features"
    return [
        "look further:",
        *(f"  {page}" for page in pages),
        "  make ui                       runs and models in MLflow",
        "  dml registry ls               versions, aliases, metrics",
        f"  dml promote {name} --dry-run",
        f"  dml predict --model {name}@challenger --slides {source} --out predictions.csv",
        "  dvc repro                     does nothing until something changes",
    ]
