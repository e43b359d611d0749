"""``dml tune`` and ``dml apply``: look for better values, and take them over."""

from enum import StrEnum
from typing import Annotated

import typer

from dml.cli.output import Json, note, show


class Kind(StrEnum):
    """What is tuned."""

    teacher = "teacher"
    distil = "distil"


Storage = Annotated[
    str | None,
    typer.Option(envvar="DML_STUDIES", help="Database URL for many machines. By default studies/<study>.journal."),
]


def tune(
    kind: Annotated[Kind, typer.Argument(help="The teacher, or its distillation into the student.")],
    task: Annotated[str, typer.Option(help="One of the tasks of params.yaml.")],
    trials: Annotated[int, typer.Option(min=1, help="How many trials the study shall have in the end.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes that work on it.")] = 1,
    study: Annotated[str | None, typer.Option(help="By default <cohort>-<task>-<kind>.")] = None,
    storage: Storage = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="With a database: take over what runs on other machines, if they are gone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search the spaces of `tuning` in params.yaml by inner validation; the same command resumes a study."""
    import logging

    from dml.config import params as config
    from dml.experiments.tuning.report import comparison, ranked, summary
    from dml.experiments.tuning.studies import Job, default_name
    from dml.experiments.tuning.worker import tune as run

    logging.getLogger("dml.experiments.tuning").setLevel(logging.INFO)
    params = config.load()
    name = study or default_name(params, kind.value, task)
    job = Job(params, kind.value, task, trials, name, storage, adopt)
    found, folder = run(job, workers)
    content = summary(found)
    show(ranked(content) if as_json else comparison(content), as_json, name)
    note(f"report: {folder}/study.md. Next: dml apply {name}, then dvc repro; or dml ui --study {name}")


def apply(
    study: Annotated[str, typer.Argument(help="Name of a study, as dml tune says.")],
    storage: Storage = None,
    trial: Annotated[
        int | None, typer.Option(help="Number of a finished trial; by default the one of the best quality.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the best values of a study into params.yaml; comments stay, the change is shown."""
    from dml.experiments.tuning.apply_best import apply_best

    diff, best = apply_best(study, storage=storage, number=trial)
    if as_json:
        row = {"study": study, "trial": best.number, "values": best.user_attrs["values"], "changed": bool(diff)}
        show([row], as_json)
        return
    typer.echo(diff or f"params.yaml has the values of trial {best.number} already")
    note(f"trial {best.number} of {study}: {best.values[0]:.4f} on inner validation. Next: dvc repro")
