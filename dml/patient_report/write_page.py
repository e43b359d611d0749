"""Write one patient's page: one HTML file that needs no network and prints on two pages."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dml.core.errors import InputError, listed
from dml.core.files import atomic
from dml.core.templates import make_environment
from dml.data.cohort_store import CohortStore
from dml.inference.ensemble import Ensemble
from dml.inference.predictor import Predictor
from dml.inference.similar_patients import read_bank
from dml.inference.slide_inputs import FEATURES
from dml.patient_report.content import Inputs, make_content
from dml.patient_report.gene_figures import read_sets
from dml.patient_report.uncertainty import read_calibration
from dml.registry.model_folder import model_folder
from dml.registry.predict import add_sites, request_table

if TYPE_CHECKING:
    from jinja2 import Template


def write_patient_page(
    model: str,
    slides: Path,
    out: Path,
    expression: Path | None = None,
    slide_table: Path | None = None,
    patient: str | None = None,
    site: str | None = None,
    same_site: bool = False,
    mpp: float | None = None,
    gene_sets: Path | None = None,
) -> dict[str, Any]:
    """Predict one patient and write the page; return what stands on it.

    Parameters
    ----------
    model : str
        ``<name>@<alias>``, or a folder of fold models.
    slides, expression, slide_table, mpp
        As `dml.registry.predict.request_table` takes them.
    out : Path
        Ends with .html.
    patient : str, optional
        Which, where the slides are of several.
    site, same_site
        As `dml.registry.similar.find_similar` takes them.
    gene_sets : Path, optional
        As `dml.patient_report.gene_figures.read_sets` takes it; by default the Hallmark sets beside the cohort's raw
        files.

    Raises
    ------
    InputError
        If the slides are of several patients and none is named, the patient cannot be predicted, or `out` is no .html.
    """
    if out.suffix != ".html":
        raise InputError(out, "the page is HTML", "Name it .html")
    table = add_sites(request_table(slides, expression, slide_table, mpp), site)
    rows = _rows_of(table, patient, slides)
    folder = model_folder(model)
    ensemble, bank = Ensemble.load(folder), read_bank(folder)
    patient_id = str(rows["patient_id"].iloc[0])
    read = Predictor(ensemble).read_patient(patient_id, rows)
    files = _files(rows, slide_table, read.slides)
    sets = read_sets(gene_sets, None if slide_table is None else CohortStore(slide_table.parent).raw_folder)
    content = make_content(Inputs(model, ensemble, read, files, bank, read_calibration(folder), same_site, sets))
    with atomic(out) as temporary:
        temporary.write_text(_template().render(**content), encoding="utf-8")
    return content


def _rows_of(table: pd.DataFrame, patient: str | None, slides: Path) -> pd.DataFrame:
    known = list(dict.fromkeys(table["patient_id"].astype(str)))
    if patient is None and len(known) > 1:
        raise InputError(slides, f"slides of {len(known)} patients", f"Name one with --patient: {listed(known)}")
    if patient is not None and patient not in known:
        raise InputError(slides, f"no slide of patient {patient}", f"There are: {listed(known)}")
    return table[table["patient_id"].astype(str) == (patient or known[0])]


def _files(
    rows: pd.DataFrame, slide_table: Path | None, slides: tuple[str, ...]
) -> Mapping[str, tuple[Path, float | None]]:
    """Slide to its file: the one that was given, or, of features, the one that the cohort's table has."""
    files = {}
    for row in rows.to_dict("records"):
        path, mpp = Path(row["path"]), row.get("mpp")
        if path.suffix not in FEATURES:
            files[path.stem] = path, None if mpp is None or pd.isna(mpp) else float(mpp)
    if slide_table is not None and slide_table.exists():
        from dml.cohorts.store_files import read_slides

        for row in read_slides(slide_table).to_dict("records"):
            if row["slide_id"] in slides and row["slide_id"] not in files and isinstance(row["path"], str):
                files[row["slide_id"]] = Path(row["path"]), None if pd.isna(row["mpp"]) else float(row["mpp"])
    return files


@cache
def _template() -> "Template":
    environment = make_environment("dml.patient_report", {"percent": _percent})
    return environment.get_template("patient.html")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
