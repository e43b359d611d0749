"""``dml predict``: predictions of a registered model."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dml.cli.output import Json, bar, note, show

if TYPE_CHECKING:
    import pandas as pd

Model = Annotated[str, typer.Option("--model", help="<name>@<alias>, e.g. demo-survival-student@champion.")]


def predict(
    model: Model,
    out: Annotated[Path, typer.Option(help="File to write: .csv, .parquet or .json.")],
    slides: Annotated[
        Path | None, typer.Option(help="A slide or feature file, a folder of them, or a CSV patient_id,path.")
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(help="Instead: a folder; each file that is finished there is predicted once.")
    ] = None,
    poll: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks into the watched folder.")] = 10.0,
    expression: Annotated[Path | None, typer.Option(help="Table of transcriptomes, for a teacher.")] = None,
    clinical: Annotated[
        Path | None, typer.Option(help="Table patient_id and clinical inputs, for a model that reads some.")
    ] = None,
    cohort: Annotated[str | None, typer.Option(help="Cohort whose slide table names the patient of a slide.")] = None,
    attention: Annotated[
        Path | None, typer.Option(help="Folder for attention maps: <patient>.parquet, a row a tile.")
    ] = None,
    similar: Annotated[
        Path | None, typer.Option(help="Folder for similar learning patients: <patient>.json, as of `dml similar`.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Similar patients in each space.")] = 20,
    mpp: Annotated[
        float | None, typer.Option(min=0.0, help="Microns per pixel of slides that do not say it, as JPEG and PNG.")
    ] = None,
    upsample: Annotated[
        bool, typer.Option("--upsample", help="Interpolate slides that are coarser than the model's tiles.")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="Folder to log predictions in, for `dml monitor`.")] = None,
    as_json: Json = False,
) -> None:
    """Predict patients from slides or features; unusable ones are rows with status refused and a reason."""
    from dml.core.errors import ConfigError
    from dml.registry import predict as prediction

    prediction.check_format(out)
    if (slides is None) == (watch is None):
        raise ConfigError("dml predict takes slides or watches a folder: give one of --slides and --watch")
    if slides is None:
        if any(option is not None for option in (attention, similar, clinical)):
            raise ConfigError("--watch takes neither --attention nor --similar nor --clinical")
        request = {"expression": expression, "mpp": mpp, "upsample": upsample}
        watch_for_slides(model, watch or Path(), out, poll, request, log)
        return
    table = Path("data") / cohort / "slides.parquet" if cohort else None
    asked, progress = {prediction.SIMILAR: k} if similar is not None else None, partial(bar, label="predicting")
    maps = attention is not None
    rows = prediction.predict(
        model, slides, expression, table, progress, maps, mpp, upsample, asked, log=log, clinical=clinical
    )
    if similar is not None:
        rows = prediction.split_similar(rows, similar)
    if attention is not None:
        rows = prediction.split_attention(rows, attention)
    prediction.write_table(rows, out)
    _report(rows, slides, out, expression, as_json)


def _report(rows: "pd.DataFrame", slides: Path, out: Path, expression: Path | None, as_json: bool) -> None:
    """Count rows, and name what was refused; CheckFailed if all were."""
    from dml.core.errors import CheckFailed
    from dml.inference.predictor import NO_EXPRESSION

    if as_json:
        counts = rows["status"].value_counts()
        show([{"out": str(out), **{status: int(counts.get(status, 0)) for status in ("ok", "refused")}}], as_json)
    refused = rows[rows["status"] == "refused"]
    for row in refused.itertuples():
        note(f"refused {row.patient_id}: {row.reason}")
    unmatched = int(rows["reason"].str.contains(NO_EXPRESSION).sum())
    if expression is not None and unmatched:
        note(f"{unmatched} of {len(rows)} patients are not in {expression}: {NO_EXPRESSION}")
        if unmatched == len(rows):
            note(
                f"the slides gave patients like {rows['patient_id'].iloc[0]!r}: name their patients with --cohort, or "
                "give --slides as a CSV with columns patient_id and path"
            )
    note(f"{len(rows) - len(refused)} of {len(rows)} patients predicted: {out}")
    if len(refused) == len(rows):
        raise CheckFailed(f"{slides}: no patient could be predicted; the reasons are in {out}")


def watch_for_slides(
    model: str, folder: Path, out: Path, poll: float, request: Mapping[str, Any], log: Path | None = None
) -> None:
    """Predict what arrives in a folder until Ctrl+C."""
    from dml.registry.versions import resolve
    from dml.registry.watch import FolderWatch, RegisteredFile, watch

    def report(row: Mapping[str, Any]) -> None:
        note(f"{row['status']} {row['file']}" + (f": {row['reason']}" if row["reason"] else ""))

    predict_file = RegisteredFile(resolve(model), log)
    watched = FolderWatch(folder, out, predict_file, request, settle_s=poll, with_images=request["mpp"] is not None)
    note(f"{folder}: each finished file becomes a row of {out}; stop with Ctrl+C")
    try:
        watch(watched, poll, report)
    except KeyboardInterrupt:
        note("stopped; the next start goes on from here")
    finally:
        predict_file.close()
