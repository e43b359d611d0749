"""Ask a registered model about slides on disk: which files, whose they are, and where the answer goes."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from dml.core.errors import InputError
from dml.core.files import atomic, read_parquet, write_parquet
from dml.inference.slide_inputs import FEATURES

if TYPE_CHECKING:
    import pandas as pd

SLIDES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi")
"""Files of a folder that are taken for slides; a file given by name is tried whatever it is called."""
TABLES = (".csv", ".tsv")
FORMATS = (".csv", ".parquet", ".json")
DIGITS = "%.6g"
"""Of numbers in a CSV, which people read; Parquet keeps all."""
RELEVANCE = "attention"
"""Column and inference parameter of a registered model; said again here because naming it must not import torch."""
_TCGA = re.compile(r"^TCGA-..-....")


def requests(slides: Path, expression: Path | None = None, slide_table: Path | None = None) -> "pd.DataFrame":
    """Make the table a registered model takes.

    Parameters
    ----------
    slides : Path
        A slide, a feature file, a folder of either, or a CSV with columns patient_id and path (and optionally
        expression, age, sex).
    expression : Path, optional
        Table with the patients' transcriptomes.
    slide_table : Path, optional
        ``data/<cohort>/slides.parquet``, which says whose a slide is; for slides below ``data/raw/<cohort>`` that
        cohort's is used if it exists. Without it the patient is what a feature file of
        the store says, else the TCGA barcode (first 12 characters), else the file's name.

    Raises
    ------
    InputError
        If there is no slide, or the CSV lacks a column.
    """
    import pandas as pd

    if slides.suffix in TABLES and slides.exists():
        table = _read_list(slides)
    else:
        files, owner = _files(slides), _owner(slide_table or _table_of(slides))
        table = pd.DataFrame({"patient_id": [owner(file) for file in files], "path": [str(file) for file in files]})
    return table if expression is None else table.assign(expression=str(expression))


def predict(
    reference: str,
    slides: Path,
    expression: Path | None = None,
    slide_table: Path | None = None,
    progress: Callable[[Sequence["pd.DataFrame"]], Iterable["pd.DataFrame"]] = iter,
    attention: bool = False,
) -> "pd.DataFrame":
    """Answer for every patient of some slides with a registered model, through the code it was packed with.

    Parameters
    ----------
    reference : str
        ``<name>@<alias>`` or ``<name>/<version>``.
    progress : callable
        Wraps the sequence of patients, to show how far it is.
    attention : bool
        Ask for the column ``attention``, too.

    Returns
    -------
    DataFrame
        One row per patient; see `dml.inference.predictor.Answering`.

    Raises
    ------
    InputError
        If the model or the slides do not exist. A slide that cannot be used is a refused row, not an error.
    """
    import pandas as pd

    from dml.registry import packaged_code as packed
    from dml.registry import versions as registry

    entry = registry.resolve(reference)
    table = requests(slides, expression, slide_table)
    patients = [pd.DataFrame(rows) for _, rows in table.groupby("patient_id", sort=False)]
    params = {RELEVANCE: True} if attention else {}
    with packed.opened(entry) as ask:
        return pd.concat([ask(rows, params) for rows in progress(patients)], ignore_index=True)


def split_relevance(table: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    """Write the column ``attention`` as ``<folder>/<patient_id>.parquet``, a row a tile; return the other columns."""
    import pandas as pd

    for patient, text in table.set_index("patient_id")[RELEVANCE].dropna().items():
        rows = pa.Table.from_pandas(pd.DataFrame(json.loads(str(text))), preserve_index=False)
        write_parquet(folder / f"{str(patient).replace('/', '_')}.parquet", rows.replace_schema_metadata(None))
    return table.drop(columns=RELEVANCE)


def write(table: "pd.DataFrame", out: Path) -> None:
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
    with atomic(out) as temporary:
        if out.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format=DIGITS)
        else:
            table.to_json(temporary, orient="records", indent=2)


def check_format(out: Path) -> None:
    """Raise InputError unless the file can be written by `write`."""
    if out.suffix not in FORMATS:
        raise InputError(out, f"unknown output format {out.suffix!r}", f"Use one of {', '.join(FORMATS)}")


def _read_list(path: Path) -> "pd.DataFrame":
    import pandas as pd

    table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype={"patient_id": str, "path": str})
    missing = [column for column in ("patient_id", "path") if column not in table.columns]
    if missing:
        raise InputError(path, f"no column {' or '.join(missing)}", f"Found {', '.join(table.columns)}")
    return table[[name for name in ("patient_id", "path", "expression", "age", "sex") if name in table.columns]]


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.exists():
        raise InputError(place, "does not exist", "Give a slide, a feature file, or a folder of them")
    found = [file for file in sorted(place.rglob("*")) if file.suffix.lower() in (*SLIDES, *FEATURES)]
    kept = [file for file in found if file.is_file() and file.name != "manifest.parquet"]
    # one file stands for all resolutions of a slide in our store: the model finds the others beside it
    first = {(file.parent.parent, file.name) if file.suffix == ".parquet" else file: file for file in reversed(kept)}
    if not first:
        raise InputError(place, "no slide or feature file inside", f"Known: {', '.join((*SLIDES, *FEATURES))}")
    return sorted(first.values())


def _table_of(slides: Path) -> Path | None:
    """Return the slide table of the cohort whose raw folder slides are in."""
    place = slides.resolve()
    for folder in (place, *place.parents):
        if folder.parent.name == "raw" and folder.parent.parent.name == "data":
            table = folder.parent.parent / folder.name / "slides.parquet"
            return table if table.exists() else None
    return None


def _owner(slide_table: Path | None) -> Callable[[Path], str]:
    """Return what tells whose a file is."""
    known: dict[str, str] = {}
    if slide_table is not None:
        rows = read_parquet(slide_table)[0].to_pylist()
        known = {str(row["slide_id"]): row["patient_id"] for row in rows}
        known |= {Path(row["path"]).stem: row["patient_id"] for row in rows if row["path"]}

    def patient(file: Path) -> str:
        barcode = _TCGA.match(file.stem)
        return known.get(file.stem) or _stored_patient(file) or (barcode.group() if barcode else file.stem)

    return patient


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
