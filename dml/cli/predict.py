"""``dml predict``: predictions of a registered model."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, bar, note, show

Model = Annotated[str, typer.Option("--model", help="<name>@<alias>, e.g. demo-survival-student@champion.")]


def predict(
    model: Model,
    slides: Annotated[Path, typer.Option(help="A slide or feature file, a folder of them, or a CSV patient_id,path.")],
    out: Annotated[Path, typer.Option(help="File to write: .csv, .parquet or .json.")],
    expression: Annotated[Path | None, typer.Option(help="Table of transcriptomes, for a teacher.")] = None,
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
    as_json: Json = False,
) -> None:
    """Predict patients from slides or features; unusable ones are rows with status refused and a reason."""
    from dml.core.errors import CheckFailed
    from dml.inference.predictor import NO_EXPRESSION
    from dml.registry import predict as prediction

    prediction.check_format(out)
    table = Path("data") / cohort / "slides.parquet" if cohort else None
    rows = prediction.predict(
        model,
        slides,
        expression,
        table,
        partial(bar, label="predicting"),
        attention is not None,
        mpp,
        upsample,
        {prediction.SIMILAR: k} if similar is not None else None,
    )
    if similar is not None:
        rows = prediction.split_similar(rows, similar)
    if attention is not None:
        rows = prediction.split_attention(rows, attention)
    prediction.write_table(rows, out)
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
