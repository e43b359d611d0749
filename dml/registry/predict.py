"""Predict slides on disk with a registered model: which files, of which patients, and where the predictions go."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dml.core.errors import InputError
from dml.core.files import atomic, read_parquet, write_csv, write_json, write_parquet
from dml.inference.prediction_log import INPUTS, PredictionLog, split_inputs
from dml.inference.slide_inputs import FEATURES
from dml.readers.slide_files import IMAGE_SUFFIXES, SLIDE_SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

SLIDES = (*SLIDE_SUFFIXES, ".czi")
"""Files of a folder that are taken for slides, as are JPEG and PNG where there is nothing else; a file given by name is
tried whatever it is called."""
TABLES = (".csv", ".tsv")
COLUMNS = ("patient_id", "path", "expression", "age", "sex", "site", "mpp", "upsample")
"""Of a table of slides; the first two are required."""
FORMATS = (".csv", ".parquet", ".json")
DIGITS = "%.6g"
"""Of numbers in a CSV, which people read; Parquet keeps all."""
ATTENTION, SIMILAR, SAME_SITE = "attention", "similar", "same_site"
"""As in `dml.inference.predictor`, which imports torch and is not needed to list files."""
_TCGA = re.compile(r"^TCGA-..-....")


def request_table(
    slides: Path,
    expression: Path | None = None,
    slide_table: Path | None = None,
    mpp: float | None = None,
    upsample: bool = False,
) -> "pd.DataFrame":
    """Make the table a registered model takes.

    Parameters
    ----------
    slides : Path
        A slide, a feature file, a folder of either, or a CSV with columns patient_id and path (and optionally
        expression, age, sex, site, mpp, upsample).
    expression : Path, optional
        Table with the patients' transcriptomes.
    slide_table : Path, optional
        ``data/<cohort>/slides.parquet``, with patient and resolution of each slide; for slides below
        ``data/raw/<cohort>`` that cohort's is used if it exists. Without it the patient is the one in a feature file of
        the store, else the TCGA barcode (first 12 characters), else the file's name.
    mpp : float, optional
        Microns per pixel of slides whose file does not say, where the table of slides does not say it either.
    upsample : bool
        Interpolate where a slide is coarser than the model's tiles, instead of refusing it.

    Raises
    ------
    InputError
        If there is no slide, or the CSV lacks a column.
    """
    import pandas as pd

    if slides.suffix in TABLES and slides.exists():
        table = _read_table(slides, ("patient_id", "path"), {"patient_id": str, "path": str})
        table = table[[name for name in COLUMNS if name in table.columns]]
    else:
        files, known = _list_files(slides), _known_slides(slide_table or _slide_table_of(slides))
        names = {"patient_id": [_patient(file, known) for file in files], "path": [str(file) for file in files]}
        table = pd.DataFrame(names)
        stated = [known.get(file.stem, {}).get("mpp") for file in files]
        if any(value is not None for value in stated):
            table["mpp"] = pd.Series(stated, dtype=float)
    if mpp is not None:
        table["mpp"] = table["mpp"].fillna(mpp) if "mpp" in table else mpp
    if upsample:
        table["upsample"] = True
    return table if expression is None else table.assign(expression=str(expression))


def add_clinical(table: "pd.DataFrame", clinical: Path) -> "pd.DataFrame":
    """Add the columns of a table of patients, one row each; who is not in it has none.

    Raises
    ------
    InputError
        If it has no column patient_id, a patient twice, or a column that the request has, too.
    """
    known = _read_table(clinical, ("patient_id",), str)
    if (repeated := known["patient_id"].duplicated()).any():
        patient = known.loc[repeated, "patient_id"].iloc[0]
        raise InputError(clinical, f"patient {patient} is there twice", "Keep one row a patient")
    if both := [name for name in known.columns if name in table.columns and name != "patient_id"]:
        raise InputError(clinical, f"column {both[0]} is in the list of slides, too", "Leave it out of one of them")
    return table.merge(known, on="patient_id", how="left")


def add_sites(table: "pd.DataFrame", site: str | None) -> "pd.DataFrame":
    """Name the hospital where the table does not: the one given, else the tissue source site of a TCGA barcode.

    Examples
    --------
    >>> import pandas as pd
    >>> add_sites(pd.DataFrame({"patient_id": ["TCGA-02-0001", "P1"]}), None)["site"].tolist()
    ['02', None]
    """
    rows = table.to_dict("records")
    sites: list[Any] = [_site(row, site) for row in rows]
    return table.assign(site=sites)


def _site(row: Mapping[Any, Any], default: str | None) -> str | None:
    named, patient = row.get("site"), str(row["patient_id"])
    if isinstance(named, str) and named:
        return named
    return default or (patient.split("-")[1] if _TCGA.match(patient) else None)


def predict(
    reference: str,
    slides: Path,
    expression: Path | None = None,
    slide_table: Path | None = None,
    progress: Callable[[Sequence["pd.DataFrame"]], Iterable["pd.DataFrame"]] = iter,
    attention: bool = False,
    mpp: float | None = None,
    upsample: bool = False,
    params: Mapping[str, Any] | None = None,
    site: str | None = None,
    log: Path | None = None,
    clinical: Path | None = None,
) -> "pd.DataFrame":
    """Predict every patient of some slides with a registered model, through the code it was packed with.

    Parameters
    ----------
    reference : str
        ``<name>@<alias>`` or ``<name>/<version>``.
    progress : callable
        Wraps the sequence of patients, to show how far it is.
    attention : bool
        Ask for the column ``attention``, too.
    mpp, upsample
        As `request_table` takes them.
    params : mapping, optional
        Further inference parameters, as ``similar`` (see `dml.inference.predictor.Predictor`).
    site : str, optional
        Hospital of the patients, for similar ones: see `add_sites`.
    log : Path, optional
        Folder in which the predictions are logged, see `dml.inference.prediction_log`.
    clinical : Path, optional
        Table with patient_id and the model's clinical inputs: see `add_clinical`.

    Returns
    -------
    DataFrame
        One row per patient; see `dml.inference.predictor.Predictor`.

    Raises
    ------
    InputError
        If the model or the slides do not exist. A slide that cannot be used is a refused row, not an error.
    """
    import pandas as pd

    from dml.registry.packaged_code import load_with_packaged_code
    from dml.registry.versions import resolve

    version = resolve(reference)
    table = request_table(slides, expression, slide_table, mpp, upsample)
    table = table if clinical is None else add_clinical(table, clinical)
    table = add_sites(table, site) if (params or {}).get(SIMILAR) else table
    patients = [pd.DataFrame(rows) for _, rows in table.groupby("patient_id", sort=False)]
    asked = {**(params or {}), **({ATTENTION: True} if attention else {}), **({INPUTS: True} if log else {})}
    with load_with_packaged_code(version) as predict_rows:
        predicted = pd.concat([predict_rows(rows, asked) for rows in progress(patients)], ignore_index=True)
    if asked.get(SIMILAR) and SIMILAR not in predicted:
        raise InputError(reference, "it was registered without a case bank", "Register again: dvc repro register")
    if log is not None:
        PredictionLog(log, version.tags["digest"]).write(predicted, table)
    return split_inputs(predicted)


def split_attention(table: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    """Write the column ``attention`` as ``<folder>/<patient_id>.parquet``, a row a tile; return the other columns."""
    import pandas as pd

    for patient, text in table.set_index("patient_id")[ATTENTION].dropna().items():
        rows = pa.Table.from_pandas(pd.DataFrame(json.loads(str(text))), preserve_index=False)
        write_parquet(folder / f"{str(patient).replace('/', '_')}.parquet", rows.replace_schema_metadata(None))
    return table.drop(columns=ATTENTION)


def split_similar(table: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    """Write the column ``similar`` as ``<folder>/<patient_id>.json``; return the other columns."""
    for patient, text in table.set_index("patient_id")[SIMILAR].dropna().items():
        write_json(folder / f"{str(patient).replace('/', '_')}.json", json.loads(str(text)))
    return table.drop(columns=SIMILAR)


def write_table(table: "pd.DataFrame", out: Path) -> None:
    """Write predictions as .csv, .parquet or .json (one object a patient).

    Raises
    ------
    InputError
        If the file name has another ending.
    """
    check_format(out)
    if out.suffix == ".parquet":
        write_parquet(out, pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None))
        return
    if out.suffix == ".csv":
        write_csv(out, table, DIGITS)
        return
    with atomic(out) as temporary:
        table.to_json(temporary, orient="records", indent=2)


def check_format(out: Path) -> None:
    """Raise InputError unless the file can be written by `write_table`."""
    if out.suffix not in FORMATS:
        raise InputError(out, f"unknown output format {out.suffix!r}", f"Use one of {', '.join(FORMATS)}")


def _read_table(path: Path, needed: Sequence[str], dtype: Any) -> "pd.DataFrame":
    """Read a table of the user, which must have some columns."""
    import pandas as pd

    table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=dtype)
    if missing := [column for column in needed if column not in table.columns]:
        raise InputError(path, f"no column {' or '.join(missing)}", f"Found {', '.join(table.columns)}")
    return table


def _list_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise InputError(path, "does not exist", "Give a slide, a feature file, or a folder of them")
    everything = sorted(path.rglob("*"))
    named = [file for file in everything if file.suffix.lower() in (*SLIDES, *FEATURES)]
    named = named or [file for file in everything if file.suffix.lower() in IMAGE_SUFFIXES]
    files = [file for file in named if file.is_file() and file.name != "manifest.parquet"]
    # one file stands for all resolutions of a slide in our store: the model reads the others beside it
    first = {(file.parent.parent, file.name) if file.suffix == ".parquet" else file: file for file in reversed(files)}
    if not first:
        known = ", ".join((*SLIDES, *IMAGE_SUFFIXES, *FEATURES))
        raise InputError(path, "no slide or feature file inside", f"Known: {known}")
    return sorted(first.values())


def _slide_table_of(slides: Path) -> Path | None:
    """Return the slide table of the cohort whose raw folder slides are in."""
    path = slides.resolve()
    for folder in (path, *path.parents):
        if folder.parent.name == "raw" and folder.parent.parent.name == "data":
            table = folder.parent.parent / folder.name / "slides.parquet"
            return table if table.exists() else None
    return None


def _known_slides(slide_table: Path | None) -> dict[str, dict[str, Any]]:
    """Return the rows of a table of slides by slide id, and by the name of the file without its suffix."""
    if slide_table is None:
        return {}
    rows = read_parquet(slide_table)[0].to_pylist()
    by_file: dict[str, dict[str, Any]] = {}
    for row in (row for row in rows if row["path"]):
        known = by_file.setdefault(Path(row["path"]).stem, dict(row))
        if known["patient_id"] != row["patient_id"]:  # fields of one image that are patients of their own
            known["patient_id"] = None
    return {str(row["slide_id"]): row for row in rows} | by_file


def _patient(file: Path, known: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the patient of a file."""
    if (patient := known.get(file.stem, {}).get("patient_id")) is not None:
        return str(patient)
    barcode = _TCGA.match(file.stem)
    return _stored_patient(file) or (barcode.group() if barcode else file.stem)


def _stored_patient(file: Path) -> str | None:
    """Patient that a feature file of our store names; None for other files."""
    if file.suffix != ".parquet":
        return None
    try:
        metadata = pq.read_schema(file).metadata or {}
    except (pa.ArrowInvalid, OSError):
        return None
    patient = json.loads(metadata.get(b"dml", b"{}")).get("patient_id")
    return str(patient) if patient else None
