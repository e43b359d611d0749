"""``dml doctor``: what the pipeline needs, whether it is there, and the command that mends it."""

import typer

from dml.cli.output import Json, show


def doctor(as_json: Json = False) -> None:
    """Check installation, parameters, stores, slides, encoder, GPU, disk, DVC, locks and tracking."""
    from dml.cli.doctor_checks import run_checks

    findings = run_checks()
    show([finding.row() for finding in findings], as_json)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)
