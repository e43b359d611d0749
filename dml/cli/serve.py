"""``dml serve``: a registered model behind HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import note


def serve(
    model: Annotated[str, typer.Option(help="<name>@<alias>, e.g. demo-survival-student@champion.")],
    root: Annotated[Path, typer.Option(help="Folder below which files are read; relative paths begin there.")] = Path(),
    host: Annotated[str, typer.Option(help="Address to listen on; there is no password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any that is free.")] = 5001,
    waiting: Annotated[
        int, typer.Option(min=1, help="Requests that may wait; others get 503, and when to retry.")
    ] = 32,
    rows: Annotated[int, typer.Option(min=1, help="Slides of one request.")] = 200,
    batch_rows: Annotated[int, typer.Option(min=1, help="Slides of several requests predicted together.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time that a request may take, waiting included.")] = 300.0,
) -> None:
    """Answer requests for predictions as MLflow's scoring server does, with the encoder loaded and with limits."""
    from dml.core.errors import InputError
    from dml.registry.versions import resolve
    from dml.serving.http_server import bind
    from dml.serving.http_server import serve as serve_version
    from dml.serving.model_service import ServingLimits

    if not root.is_dir():
        raise InputError(root, "no such folder", "Give --root a folder with slides or features")
    version = resolve(model)
    limits = ServingLimits(waiting=waiting, rows=rows, batch_rows=batch_rows, seconds=seconds)
    with bind(host, port) as listener:
        serve_version(version, listener, root, limits, note)
