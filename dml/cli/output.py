"""Output of commands: a table for people, JSON for machines, a progress bar; and the old names of commands."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from rich.table import Table

Item = TypeVar("Item")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
"""The option of every command that a machine would read."""


def show(rows: Sequence[Mapping[str, Any]], as_json: bool, title: str = "") -> None:
    """Print rows of equal keys."""
    if as_json:
        typer.echo(json.dumps(list(rows), indent=2, default=str))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not rows:
        console.print(f"{title or 'rows'}: none")
        return
    if title:
        console.print(f"[bold]{_text(title)}[/]", soft_wrap=True)
    table = _table(rows)
    if not console.is_terminal:  # a file or a pipe has no width to fit
        console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    for part in [table] if _fits(rows, console.width) else [_record(row) for row in rows]:
        console.print(part)
        console.print()


def add_old_name(app: typer.Typer, old: str, new: str) -> None:
    """Refuse a command by the name that it had before version 0.2, whatever its options."""

    def refuse(context: typer.Context) -> None:
        refuse_old_name(f"{context.command_path}", new)

    lenient = {"ignore_unknown_options": True, "allow_extra_args": True}
    app.command(old, hidden=True, context_settings=lenient, add_help_option=False)(refuse)


def refuse_old_name(old: str, new: str) -> NoReturn:
    """Raise ConfigError with the present name of a command or option."""
    from dml.core.errors import ConfigError

    raise ConfigError(f"`{old}` was renamed: {new}")


def note(text: str) -> None:
    """Print a line for people to stderr, so that stdout stays readable by machines."""
    typer.echo(text, err=True)


def bar(items: Sequence[Item], label: str) -> Iterable[Item]:
    """Show progress over items on stderr; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, description=label, console=console, transient=True, disable=not console.is_terminal)


def _table(rows: Sequence[Mapping[str, Any]]) -> "Table":
    """One line a row; numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    for position, column in enumerate(rows[0]):
        numeric = all(isinstance(row[column], int | float | None) for row in rows)
        table.add_column(str(column).replace("_", " "), no_wrap=position == 0, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    return table


def _fits(rows: Sequence[Mapping[str, Any]], width: int) -> bool:
    """Whether every column has room for its longest word, so that nothing is cut."""
    cells = [[str(name).replace("_", " "), *(_text(row[name]) for row in rows)] for name in rows[0]]
    longest = [max(len(word) for cell in column for word in cell.split() or [""]) for column in cells[1:]]
    longest.append(max(map(len, cells[0])))
    return sum(longest) + 2 * len(longest) <= width


def _record(row: Mapping[str, Any]) -> "Table":
    """One line a field, for rows with more than a terminal is wide."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in row.items():
        table.add_row(str(name).replace("_", " "), _text(value))
    return table


def _text(value: object) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
