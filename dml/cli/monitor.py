"""``dml monitor``: whether a registered version still sees what it was made for, and still holds what it promised."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, note, show


def monitor(
    model: Annotated[str, typer.Option("--model", help="<name>@<alias>, e.g. demo-survival-student@champion.")],
    log: Annotated[Path, typer.Option(help="Folder that predictions were logged in.")],
    outcomes: Annotated[
        Path | None, typer.Option(help="Table patient_id, time, event (or label, or target); more columns: subgroups.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for monitor.html and monitor.json.")] = None,
    level: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Chance of any alarm, ever, if nothing changes.")
    ] = 0.05,
    baseline: Annotated[
        int, typer.Option(min=0, help="First logged patients that are the reference instead of the training cohort.")
    ] = 0,
    floor: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Lowest C promised; else the lower end in evaluation.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Watch a version: drift, and performance as outcomes arrive; an alarm is exit code 3 and a tag."""
    from dml.core.errors import CheckFailed
    from dml.monitoring.monitor import MonitorSettings
    from dml.monitoring.monitor import monitor as watch
    from dml.monitoring.monitor_page import check_row, tag_version, to_json, write_results

    result = watch(model, log, outcomes, MonitorSettings(level, baseline, floor))
    folder = out or Path("reports") / "monitoring" / result.version.name
    write_results(result, folder)
    tag_version(result.version, result.alarms)
    show([to_json(result)] if as_json else [check_row(check) for check in result.checks], as_json, "performance")
    for text in result.notes:
        note(text)
    note(f"{result.patients} patients, {result.outcomes} outcomes, {len(result.drift.weeks)} weeks: {folder}")
    if result.alarms:
        raise CheckFailed(f"{result.version.name} version {result.version.version}: {'. '.join(result.alarms)}")
