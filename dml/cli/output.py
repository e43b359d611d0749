"""How commands show what they found: a table for people, JSON for machines, a bar while they work."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer

Item = TypeVar("Item")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
"""The option of every command that a machine would read."""


def show(rows: Sequence[Mapping[str, Any]], as_json: bool, title: str = "") -> None:
    """Print rows of equal keys."""
    if as_json:
        typer.echo(json.dumps(list(rows), indent=2, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for position, column in enumerate(rows[0] if rows else ()):
        table.add_column(str(column).replace("_", " "), no_wrap=position == 0)
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    Console().print(table if rows else f"{title}: none")


def note(text: str) -> None:
    """Print a line for people to stderr, so that stdout stays readable by machines."""
    typer.echo(text, err=True)


def bar(items: Sequence[Item], label: str) -> Iterable[Item]:
    """Show progress over items on stderr."""
    from rich.console import Console
    from rich.progress import track

    return track(items, description=label, console=Console(stderr=True), transient=True)


def _text(value: object) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))
