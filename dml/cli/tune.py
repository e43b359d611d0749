"""``dml tune``: search better values of params.yaml by inner validation, and write the best ones into it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from dml.cli.output import Json, note, refuse_old_name, show

if TYPE_CHECKING:
    from dml.experiments.tuning.search_space import Kind

app = typer.Typer(
    no_args_is_help=True, help="Search better values of params.yaml by inner validation; no test patient."
)
Storage = Annotated[
    str | None,
    typer.Option(envvar="DML_STUDIES", help="Database URL for many machines. By default studies/<study>.journal."),
]


def _search(kind: "Kind") -> Callable[..., None]:
    def search(
        task: Annotated[str, typer.Option(help="One of the tasks of params.yaml.")],
        trials: Annotated[int, typer.Option(min=1, help="Number of trials that the study has in the end.")],
        workers: Annotated[int, typer.Option(min=1, help="Processes that run trials.")] = 1,
        study: Annotated[str | None, typer.Option(help="By default <cohort>-<task>-<kind>.")] = None,
        storage: Storage = None,
        reclaim_stale: Annotated[
            bool,
            typer.Option("--reclaim-stale", help="With a database: take over trials of other machines that are gone."),
        ] = False,
        adopt: Annotated[bool, typer.Option("--adopt", hidden=True)] = False,
        as_json: Json = False,
    ) -> None:
        import logging

        from dml.config import params as config
        from dml.experiments.tuning.report import compare_best, rank_trials, summarize
        from dml.experiments.tuning.studies import StudyJob, default_name
        from dml.experiments.tuning.worker import tune

        if adopt:
            refuse_old_name("dml tune --adopt", "dml tune --reclaim-stale")
        logging.getLogger("dml.experiments.tuning").setLevel(logging.INFO)
        params = config.load()
        name = study or default_name(params, kind, task)
        result, folder = tune(StudyJob(params, kind, task, trials, name, storage, reclaim_stale), workers)
        content = summarize(result)
        show(rank_trials(content) if as_json else compare_best(content), as_json, name)
        note(f"report: {folder}/study.md. Next: dml tune apply {name}, then dvc repro; or dml ui --study {name}")

    return search


app.command("teacher", help="Tune the teacher; the same command resumes a study.")(_search("teacher"))
app.command("student", help="Tune the distillation into the student; the same command resumes a study.")(
    _search("student")
)


@app.command()
def apply(
    study: Annotated[str, typer.Argument(help="Name of a study.")],
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
