"""``dml report-patient``: one page on one patient."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import note


def report_patient(
    model: Annotated[str, typer.Option(help="<name>@<alias>, or a folder models/<cohort>/<task>/<model>.")],
    slides: Annotated[Path, typer.Option(help="Slide or feature file, a folder of them, or a CSV patient_id,path.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The page: .html, one file, for a browser without network.")],
    expression: Annotated[Path | None, typer.Option(help="Table of transcriptomes, for a teacher.")] = None,
    cohort: Annotated[str | None, typer.Option(help="Cohort whose slide table names the patient of a slide.")] = None,
    patient: Annotated[str | None, typer.Option(help="Which patient, where the slides are of several.")] = None,
    site: Annotated[str | None, typer.Option(help="Hospital of the patient, as the model's cohort codes it.")] = None,
    same_site: Annotated[bool, typer.Option("--same-site", help="Show similar patients of the same hospital.")] = False,
    gene_sets: Annotated[
        Path | None,
        typer.Option(help="Pathways as .gmt or a column each; by default Hallmark beside the cohort's raw files."),
    ] = None,
    mpp: Annotated[float | None, typer.Option(min=0.0, help="Microns per pixel of slides that do not say it.")] = None,
) -> None:
    """Write one page on a patient: maps, prediction and its uncertainty, similar patients, quality of the input."""
    from dml.patient_report.write_page import write_patient_page

    table = Path("data") / cohort / "slides.parquet" if cohort else None
    content = write_patient_page(model, slides, out, expression, table, patient, site, same_site, mpp, gene_sets)
    for warning in content["warnings"]:
        note(f"warning: {warning}")
    if content["bank_remedy"]:
        note(f"no case bank, so no similar patients. {content['bank_remedy']}")
    note(f"{content['patient']}: {out}")
