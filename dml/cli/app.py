"""Entry point of the command line: the commands, and what a user error looks like."""

import logging
import sys

import typer

from dml.cli import (
    adapt,
    benchmark,
    cohort,
    doctor,
    experiments,
    features,
    federate,
    heatmap,
    join,
    monitor,
    predict,
    probe,
    registry,
    report_patient,
    results,
    serve,
    similar,
    spatial,
    teachability,
    tune,
    ui,
    update,
    view,
)
from dml.cli.output import add_old_name
from dml.core.errors import as_user_error

HELP = """From whole-slide images and transcriptomes to a registered slide-only model.

Exit codes: 0 done, 1 error, 2 wrong input or option, 3 a check failed or all input was refused, 4 a promotion gate
refused, 5 another process is at work, 6 the tracking store cannot be reached.
"""

app = typer.Typer(
    name="dml",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("doctor")(doctor.doctor)
app.add_typer(cohort.app, name="cohort")
app.add_typer(features.app, name="features")
app.command("adapt")(adapt.adapt)
app.command("results")(results.results)
app.command("teachability")(teachability.teachability)
app.command("predict")(predict.predict)
app.command("monitor")(monitor.monitor)
app.command("similar")(similar.similar)
app.command("report-patient")(report_patient.report_patient)
app.command("heatmap")(heatmap.heatmap)
app.command("validate-external")(experiments.validate_external)
app.command("spatial")(spatial.spatial)
app.add_typer(probe.app, name="probe")
app.command("reproduce")(experiments.reproduce)
app.add_typer(registry.app, name="registry")
app.command("promote")(registry.promote)
app.command("rollback")(registry.rollback)
app.command("update")(update.update)
app.add_typer(tune.app, name="tune")
app.command("ablate")(experiments.ablate)
app.command("serve")(serve.serve)
app.command("federate")(federate.federate)
app.command("benchmark")(benchmark.benchmark)
app.command("join")(join.join)
app.command("view")(view.view)
app.command("ui")(ui.ui)
app.command("migrate")(cohort.migrate)
for group, old, new in (
    (app, "apply", "dml tune apply"),
    (app, "external", "dml validate-external"),
    (tune.app, "distil", "dml tune student"),
    (probe.app, "shuffle-labels", "dml probe permutation-test"),
):
    add_old_name(group, old, new)


def main() -> None:
    """Run a command; a user error is its message on stderr and its exit code, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except Exception as error:
        known = as_user_error(error)
        if known is None:
            raise
        typer.secho(f"error: {known}", fg=typer.colors.RED, err=True)
        raise SystemExit(known.exit_code) from None
