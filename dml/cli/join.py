"""``dml join``: a hospital, or the server, takes its place in a federated network."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import note


def join(
    kit: Annotated[Path, typer.Argument(help="Startup kit of this party, made by nvflare provision.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the site's cohort store, data/<cohort>; the server has none.")
    ] = None,
) -> None:
    """Start this party of a network and answer the server's requests until it is stopped."""
    from dml.core.errors import DmlError
    from dml.federation.nvflare_network import start_kit

    note(f"{kit.name}: joins; stop with Ctrl+C")
    status = start_kit(kit, data)
    if status:
        raise DmlError(f"{kit.name} ended with status {status}: see {kit / 'log.txt'}")
