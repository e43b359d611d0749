"""``dml view``: slides with the maps of a model in the browser, on this machine only."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import note


def view(
    model: Annotated[str, typer.Option(help="Folder of fold models (models/<cohort>/<task>/<model>), or name@alias.")],
    cohort: Annotated[str | None, typer.Option(help="Cohort to show; by default that of params.yaml.")] = None,
    slides: Annotated[Path | None, typer.Option(help="Instead: a folder of slides or features, or one file.")] = None,
    mpp: Annotated[float | None, typer.Option(min=0.0, help="Microns per pixel of files that do not say it.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 is any that is free.")] = 8899,
    browser: Annotated[bool, typer.Option(help="Open the address in a browser.")] = True,
) -> None:
    """Show slides with what each tile contributed to the output; nothing is written, nothing leaves this machine."""
    from dml.viewer.model_source import make_viewer
    from dml.viewer.server import bind, serve

    if cohort is None and slides is None:
        from dml.config import params as config

        cohort = config.load().cohort
    listener = bind(port)
    with listener:
        viewer = make_viewer(model, cohort, slides, mpp)
        note(f"{len(viewer.slides)} slides of {viewer.collection.name}; stop with Ctrl+C. Open in a browser here:")
        serve(viewer, listener, note, browser)
