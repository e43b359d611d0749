"""``dml doctor``: is everything there that the pipeline needs, and if not, what to do."""

import typer

from dml.cli.output import Json, show


def doctor(as_json: Json = False) -> None:
    """Check installation, parameters, stores, slides, GPU, disk and tracking, and say what to do."""
    from dml.cli.doctor_checks import diagnose

    findings = diagnose()
    show([finding.row() for finding in findings], as_json)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)
