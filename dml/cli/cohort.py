"""``dml cohort``: bring a cohort in, look at it, make it the one that params.yaml is about."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, note, show

app = typer.Typer(no_args_is_help=True, help="Import, generate, choose and inspect cohorts.")
Name = Annotated[str, typer.Argument(help="Name of a description cohorts/<name>.yaml.")]
MaybeName = Annotated[str | None, typer.Argument(help="By default the cohort of params.yaml.")]
PARAMS = Path("params.yaml")


@app.command("import")
def import_(
    name: Name,
    source: Annotated[
        Path | None,
        typer.Option(
            help="Folder that holds the raw files; not for a cohort that combines others.", exists=True, file_okay=False
        ),
    ] = None,
) -> None:
    """Copy a cohort's raw files to where its description expects them; of one that combines others, their stores."""
    from dml.cohorts.import_raw import import_cohort

    import_cohort(name, source)
    note(f"{name}: raw files are in place. Next: dml cohort use {name}, then dvc repro")


@app.command()
def use(name: Name) -> None:
    """Make another cohort the current one in params.yaml, with a dvc.lock of its own; the change is shown."""
    from dml.cli.cohort_lock import drop_stale_entries, switch_lock
    from dml.cohorts.description import CohortDescription
    from dml.cohorts.import_raw import use_cohort
    from dml.config import params as config

    previous = config.load(PARAMS).cohort
    typer.echo(use_cohort(name, PARAMS) or f"{PARAMS} is already about {name}")
    switch_lock(previous, name, CohortDescription.load(name).generated)
    if dropped := drop_stale_entries():
        note(f"dvc.lock: entries of stages that no longer exist were dropped: {', '.join(dropped)}")


@app.command()
def demo(
    patients: Annotated[int, typer.Option(help="How many patients.", min=10)] = 80,
    seed: Annotated[int, typer.Option(help="Equal seeds paint equal slides.")] = 7,
    slide_px: Annotated[int, typer.Option(help="Pixels of a slide's side at 20x, about.", min=512)] = 2048,
    folder: Annotated[Path, typer.Option(help="Where to.")] = Path("data/raw/demo"),
) -> None:
    """Generate the demo cohort: painted slides, expression and survival from known factors."""
    from dml.demo import generate_cohort

    generate_cohort(folder, patients=patients, seed=seed, slide_px=slide_px)
    note(f"{patients} patients are in {folder}. Next: dvc repro")


@app.command()
def check(name: MaybeName = None) -> None:
    """Check the stores of a cohort as the pipeline does; exit code 3 and the reasons if something is wrong."""
    from tempfile import TemporaryDirectory

    from dml.checks.run import check_cohort
    from dml.cohorts.description import CohortDescription
    from dml.config import params as config

    params = config.load(PARAMS)
    cohort = name or params.cohort
    tasks = params.tasks if cohort == params.cohort else None
    with TemporaryDirectory() as temporary:
        check_cohort(
            Path("data") / cohort,
            CohortDescription.load(cohort),
            params.checks,
            Path(temporary),
            tasks,
            params.split.test_population,
        )
    note(f"{cohort}: all checks passed")


@app.command()
def drift(
    first: Name,
    second: Annotated[str, typer.Argument(help="The cohort that is compared with it.")],
    out: Annotated[Path | None, typer.Option(help="Default reports/drift/<first>-<second>.")] = None,
) -> None:
    """Compare two cohorts gene by gene, label by label, and by their features; one page, and tables beside it."""
    from dml.checks.drift_report import compare_cohorts, write_comparison

    folder = out or Path("reports") / "drift" / f"{first}-{second}"
    typer.echo(write_comparison(folder, compare_cohorts(Path("data") / first, Path("data") / second)))
    note(f"the whole tables are in {folder}")


@app.command("show")
def show_(name: MaybeName = None, as_json: Json = False) -> None:
    """Count a cohort's patients, events, labels, slides and transcriptomes."""
    from dml.cli.inventory import summary
    from dml.config import params as config

    cohort = name or config.load(PARAMS).cohort
    show(summary(Path("data") / cohort), as_json, cohort)


@app.command()
def explain(
    patient: Annotated[str, typer.Argument(help="Id of a patient.")],
    cohort: Annotated[str | None, typer.Option(help="By default the cohort of params.yaml.")] = None,
    as_json: Json = False,
) -> None:
    """Say which file, row, sample and rule gave each value of a patient, and what was left out and why."""
    from dml.cohorts.provenance import explain_patient
    from dml.config import params as config

    folder = Path("data") / (cohort or config.load(PARAMS).cohort)
    rows = explain_patient(folder / "provenance.parquet", patient).astype(object).fillna("").to_dict("records")
    show([{str(key): value for key, value in row.items()} for row in rows], as_json, patient)


@app.command()
def ls(as_json: Json = False) -> None:
    """List the described cohorts and how far each has come."""
    from dml.cli.inventory import cohorts
    from dml.config import params as config

    show(cohorts(Path("cohorts"), config.load(PARAMS).cohort), as_json, "cohorts")


def migrate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Default: params.yaml and cohorts/*.yaml.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Rename old keys in params.yaml and cohort descriptions; comments stay, the change is shown."""
    from dml.config.migrate import migrate as rename_keys

    for path in files or [PARAMS, *sorted(Path("cohorts").glob("*.yaml"))]:
        typer.echo(rename_keys(path) or f"{path}: no old name")
