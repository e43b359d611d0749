"""``dml ui``: MLflow and, where there are studies, the Optuna dashboard, on this machine only."""

from typing import Annotated

import typer

from dml.cli.output import note


def ui(
    port: Annotated[int, typer.Option(help="Port of MLflow; the dashboard gets the next one.")] = 5000,
    study: Annotated[
        str | None, typer.Option(help="Study for the dashboard, or a database URL; by default the latest.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands instead of running them.")] = False,
) -> None:
    """Serve MLflow (and the Optuna dashboard) on 127.0.0.1 with the right stores until interrupted."""
    from dml.cli.ui_servers import commands, serve

    servers = commands(port, study)
    for name, command in servers.items():
        note(f"{name}: {' '.join(command.words)}" if dry_run else f"{name}: {command.address}")
        for what, page in command.prepared.items():
            note(f"  {what}: {command.at(page)}")
    if not dry_run:
        serve(servers)
