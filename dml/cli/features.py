"""``dml features``: what is in the feature store."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, bar, note, show

app = typer.Typer(no_args_is_help=True, help="Inspect and verify the stored features.")
Cohort = Annotated[str | None, typer.Option(help="By default that of params.yaml.")]


def _folder(cohort: str | None) -> Path:
    from dml import config

    return Path("data") / (cohort or config.load().cohort) / "features"


@app.command()
def ls(cohort: Cohort = None, as_json: Json = False) -> None:
    """List encoders and resolutions with their slides and size."""
    from dml.ops.inventory import feature_sets

    show(feature_sets(_folder(cohort)), as_json, "features")


@app.command("show")
def show_(
    slide: Annotated[str, typer.Argument(help="Slide id.")], cohort: Cohort = None, as_json: Json = False
) -> None:
    """Show where a slide's features are, how many tiles they have, and where they come from."""
    from dml.ops.inventory import slide_features

    show(slide_features(_folder(cohort), slide), as_json, slide)


@app.command()
def verify(cohort: Cohort = None, as_json: Json = False) -> None:
    """Read every feature file; exit code 3 if one is damaged, has NaN, or is not what its place says."""
    from dml.errors import CheckFailed, listed
    from dml.ops.inventory import feature_files, problem

    files = feature_files(_folder(cohort))
    found = [(file, problem(file)) for file in bar(files, "reading")]
    wrong = [{"file": str(file), "problem": text} for file, text in found if text]
    if as_json or wrong:
        show(wrong, as_json, "problems")
    if wrong:
        raise CheckFailed(f"{len(wrong)} of {len(files)} files are wrong: {listed([row['file'] for row in wrong])}")
    note(f"{len(files)} files are as they should be")
