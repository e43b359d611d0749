"""``dml features``: the files of the feature store."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, bar, note, show

app = typer.Typer(no_args_is_help=True, help="Inspect and verify the stored features.")
Cohort = Annotated[str | None, typer.Option(help="By default that of params.yaml.")]


def _folder(cohort: str | None) -> Path:
    from dml.config import params as config

    return Path("data") / (cohort or config.load().cohort) / "features"


@app.command()
def ls(cohort: Cohort = None, as_json: Json = False) -> None:
    """List encoders and resolutions with their slides and size."""
    from dml.cli.inventory import feature_sets

    show(feature_sets(_folder(cohort)), as_json, "features")


@app.command("show")
def show_(
    slide: Annotated[str, typer.Argument(help="Slide id.")], cohort: Cohort = None, as_json: Json = False
) -> None:
    """Show the feature files of a slide: number of tiles, resolution, encoder weights."""
    from dml.cli.inventory import slide_features

    show(slide_features(_folder(cohort), slide), as_json, slide)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Folder to write to: <encoder>/<mpp>/<slide>.h5.")],
    slide: Annotated[list[str] | None, typer.Option(help="Slide id; may be repeated. Default: all.")] = None,
    cohort: Cohort = None,
) -> None:
    """Write features as h5 in TRIDENT's layout (features, coords with attributes), for other tools to read."""
    from dml.cli.inventory import chosen_files
    from dml.data.feature_store import read_features
    from dml.features.foreign_formats import write_h5

    folder = _folder(cohort)
    files = chosen_files(folder, slide)
    for file in bar(files, "writing"):
        write_h5((out / file.relative_to(folder)).with_suffix(".h5"), *read_features(file))
    note(f"{len(files)} files are in {out}")


@app.command()
def verify(cohort: Cohort = None, as_json: Json = False) -> None:
    """Read every feature file; exit code 3 if one is damaged, has NaN, or has metadata of another file."""
    from dml.cli.inventory import feature_files, problem
    from dml.core.errors import CheckFailed, listed

    files = feature_files(_folder(cohort))
    problems = [(file, problem(file)) for file in bar(files, "reading")]
    wrong = [{"file": str(file), "problem": text} for file, text in problems if text]
    if as_json or wrong:
        show(wrong, as_json, "problems")
    if wrong:
        raise CheckFailed(f"{len(wrong)} of {len(files)} files are wrong: {listed([row['file'] for row in wrong])}")
    note(f"{len(files)} files are as they should be")
