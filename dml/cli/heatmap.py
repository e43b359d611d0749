"""``dml heatmap``: maps of slides as pictures, GeoJSON, AnnData and SpatialData."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, note, show

FORMATS = ("png", "pdf", "geojson", "h5ad", "zarr")
"""h5ad is AnnData, zarr SpatialData."""


def heatmap(
    task: Annotated[str, typer.Option(help="One of the tasks of params.yaml.")],
    slide: Annotated[list[str], typer.Option(help="Id of a slide of the current cohort; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for the maps.")],
    model: Annotated[str, typer.Option(help="teacher, student or a deep baseline.")] = "student",
    output: Annotated[str | None, typer.Option(help="A class; by default the risk or the predicted class.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Resolution of the tiles; by default the finest.")] = None,
    formats: Annotated[str, typer.Option("--format", help=f"Comma-separated: {', '.join(FORMATS)}.")] = "png,geojson",
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of tiles in the regions of the GeoJSON.")] = 0.1,
    as_json: Json = False,
) -> None:
    """Draw what each tile contributed to the output, per subspace, by the models that never saw the patient."""
    from dml.config import params as config
    from dml.core.errors import ConfigError
    from dml.data.cohort_store import CohortStore
    from dml.inference.maps.export import export_map
    from dml.inference.maps.slide_map import make_slide_map
    from dml.training.model_store import ModelStore

    wanted = [name.strip() for name in formats.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise ConfigError(f"--format: {', '.join(unknown) or 'nothing'}; allowed: {', '.join(FORMATS)}")
    params = config.load()
    if task not in params.tasks:
        raise ConfigError(f"--task: {task!r} is no task of params.yaml; there are: {', '.join(params.tasks)}")
    store, models = CohortStore.of(params.cohort), ModelStore.of(params.cohort, task)
    cohort = store.cohort(params.embed.encoder, params.tiles.mpps)
    rows = []
    for slide_id in slide:
        made = make_slide_map(store, models, cohort, model, slide_id, output)
        files = export_map(made, out, wanted, mpp if mpp is not None else min(params.tiles.mpps), share)
        rows += [{"slide": slide_id, "output": made.output, "file": str(file)} for file in files]
        note(f"{slide_id}: {', '.join(map(str, files))}")
    if as_json:
        show(rows, as_json)
