"""``dml registry``, ``dml promote``, ``dml rollback``: versions of models and which of them is in use."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from dml.cli.output import Json, note, show

app = typer.Typer(no_args_is_help=True, help="Look at the registered models.")
Name = Annotated[str, typer.Argument(help="Name of a registered model, e.g. demo-survival-student.")]


@app.command()
def ls(as_json: Json = False) -> None:
    """List the versions of all registered models with aliases and where they come from; --json has all metrics."""
    from dml.cli.result_rows import registered_rows

    show(registered_rows(as_json), as_json, "registered models")


@app.command()
def log(as_json: Json = False) -> None:
    """Show every promotion, refusal and rollback, the newest last: what, who, when, why."""
    from dml.registry.promotion import promotion_log

    entries = promotion_log()
    show(entries if as_json else [brief(entry) for entry in entries], as_json, "promotions")


def brief(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Shorten a logged promotion to a row of a table."""
    failed = ", ".join(entry.get("failed") or ())
    version = entry.get("champion") or entry.get("refused")
    row = {key: entry.get(key) or "" for key in ("when", "who", "action", "model")}
    return {**row, "version": version, "before": entry.get("before"), "why": entry.get("why") or failed}


def promote(
    name: Name,
    why: Annotated[str, typer.Option(help="Reason, kept with the version.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the gates.")] = False,
    as_json: Json = False,
) -> None:
    """Make the challenger the champion if it passes every gate; the old champion becomes previous."""
    from dml.config import params as config
    from dml.registry.promotion import check_gates
    from dml.registry.promotion import promote as apply

    params = config.load()
    results = check_gates(name, params) if dry_run else apply(name, params, why)
    show([gate.row() for gate in results.gates], as_json, results.title)
    results.enforce()
    note(f"{name}: version {results.challenger.version} {'would become' if dry_run else 'is now'} champion")


def rollback(
    name: Name,
    why: Annotated[str, typer.Option(help="Reason, kept with the version.")] = "",
    as_json: Json = False,
) -> None:
    """Make the previous champion the champion again."""
    from dml.registry.promotion import rollback as apply

    restored, withdrawn = apply(name, why)
    if as_json:
        show([{"model": name, "champion": restored, "challenger": withdrawn}], as_json)
    note(f"{name}: version {restored} is champion again, version {withdrawn} is challenger")
