"""``dml predict`` and ``dml external``: a registered model at work."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, bar, note, show

Model = Annotated[str, typer.Option("--model", help="<name>@<alias>, e.g. demo-survival-student@champion.")]


def predict(
    model: Model,
    slides: Annotated[Path, typer.Option(help="A slide or feature file, a folder of them, or a CSV patient_id,path.")],
    out: Annotated[Path, typer.Option(help="Where to: .csv, .parquet or .json.")],
    expression: Annotated[Path | None, typer.Option(help="Table of transcriptomes, for a teacher.")] = None,
    cohort: Annotated[str | None, typer.Option(help="Whose slide table says which patient a slide is of.")] = None,
    attention: Annotated[
        Path | None, typer.Option(help="Folder for where the model looked: <patient>.parquet, a row a tile.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict patients from slides or features; unusable ones are rows with status refused and a reason."""
    from dml.core.errors import CheckFailed
    from dml.inference.predictor import NO_TRANSCRIPTOME
    from dml.registry import predict as prediction

    prediction.check_format(out)
    table = Path("data") / cohort / "slides.parquet" if cohort else None
    said = prediction.predict(
        model, slides, expression, table, partial(bar, label="predicting"), attention=attention is not None
    )
    if attention is not None:
        said = prediction.split_relevance(said, attention)
    prediction.write(said, out)
    if as_json:
        counts = said["status"].value_counts()
        show([{"out": str(out), **{status: int(counts.get(status, 0)) for status in ("ok", "refused")}}], as_json)
    refused = said[said["status"] == "refused"]
    for row in refused.itertuples():
        note(f"refused {row.patient_id}: {row.reason}")
    alone = int(said["reason"].str.contains(NO_TRANSCRIPTOME).sum())
    if expression is not None and alone:
        note(f"{alone} of {len(said)} patients are not in {expression}: {NO_TRANSCRIPTOME}")
        if alone == len(said):
            note(
                f"the slides gave patients like {said['patient_id'].iloc[0]!r}: say whose they are with --cohort, or "
                "give --slides as a CSV with columns patient_id and path"
            )
    note(f"{len(said) - len(refused)} of {len(said)} patients predicted: {out}")
    if len(refused) == len(said):
        raise CheckFailed(f"{slides}: no patient could be predicted; the reasons are in {out}")


def external(
    model: Model,
    cohort: Annotated[str, typer.Option(help="A cohort whose stores are in data/<cohort>.")],
    as_json: Json = False,
) -> None:
    """Apply a model to a whole other cohort and score it there, with intervals."""
    from dml.cli.result_rows import metric_rows, numbers
    from dml.config import params as config
    from dml.core.files import read_json
    from dml.experiments.external_validation import external as apply

    params = config.load()
    out = apply(model, cohort, params.evaluation, params.seed)
    scored = read_json(out / "metrics.json")
    show(numbers(scored) if as_json else metric_rows(scored), as_json, f"{model} on {cohort}")
    note(f"{out}: metrics.json, predictions.parquet, coverage.json")
