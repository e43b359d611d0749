"""One row a slide: whose it is, where its file is, and its resolution if a table says so."""

import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from dml.cohorts.columns import Column, Pattern
from dml.cohorts.description import CohortDescription
from dml.cohorts.raw_files import Features, SlideFolder, SlideTable
from dml.cohorts.readers.tables import column, keys, numbers, read_table, rows
from dml.cohorts.slide_files import feature_files, slide_files
from dml.core.errors import InputError, listed
from dml.core.files import write_parquet

logger = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [("slide_id", pa.string()), ("patient_id", pa.string()), ("path", pa.string()), ("mpp", pa.float64())]
)


def build_slides(description: CohortDescription) -> pd.DataFrame:
    """Gather the slides of the slide table or folder, and those that exist as imported features only.

    Returns
    -------
    DataFrame
        Sorted by slide_id: patient_id, path (relative to the root of the repository; None for features only), mpp
        [microns per pixel] where a table says it (NaN elsewhere; the slide file itself is not opened here).

    Raises
    ------
    InputError
        If a file or column is missing, a slide id is repeated, or a name does not match its pattern.
    """
    raw = description.raw_folder
    parts = []
    if description.slides and description.slides.table:
        parts.append(_from_table(raw, description.slides.table))
    if description.slides and description.slides.folder:
        parts.append(_from_folder(raw, description.slides.folder))
    for source in description.features:
        known = {slide for part in parts for slide in part["slide_id"]}
        parts.append(_from_features(raw, source, known))
    slides = pd.concat([_empty(), *(p for p in parts if len(p))], ignore_index=True) if parts else _empty()
    if description.slides and description.slides.mpp_from:
        slides["mpp_from"] = description.slides.mpp_from
    left_out = slides["slide_id"].isin(description.exclude) | slides["patient_id"].isin(description.exclude)
    return slides[~left_out].sort_values("slide_id", ignore_index=True)


def write_slides(path: Path, slides: pd.DataFrame) -> None:
    """Write the table; `mpp_from` only where the cohort says it."""
    schema = SCHEMA.append(pa.field("mpp_from", pa.string())) if "mpp_from" in slides else SCHEMA
    write_parquet(path, pa.Table.from_pandas(slides[schema.names], schema=schema, preserve_index=False))


def _from_table(raw: Path, spec: SlideTable) -> pd.DataFrame:
    path = raw / spec.file
    frame = read_table(path)
    ids = keys(frame, path, spec.id)
    if ids.duplicated().any():
        again = ids.duplicated(keep=False)
        found = f"repeated slide ids: {listed(sorted(set(ids[again])))} in {rows(again)}"
        raise InputError(path, found, "Each slide has one row; delete or rename the others")
    slides = pd.DataFrame({"slide_id": ids, "patient_id": keys(frame, path, spec.patient), "path": None, "mpp": np.nan})
    if spec.path is not None:
        slides["path"] = [str(raw / name) for name in keys(frame, path, Column(column=spec.path))]
    if isinstance(spec.mpp, str):
        slides["mpp"] = numbers(column(frame, path, spec.mpp), path)
    elif spec.mpp is not None:
        slides["mpp"] = spec.mpp
    return slides


def _from_folder(raw: Path, spec: SlideFolder) -> pd.DataFrame:
    folder = raw / spec.folder
    files = slide_files(folder, spec.slide)
    patients = _patients(folder, list(files), spec.patient, "slides.folder.patient")
    paths = [str(folder / name) for name in files.values()]
    mpp = np.nan if spec.mpp is None else spec.mpp
    return pd.DataFrame({"slide_id": list(files), "patient_id": patients, "path": paths, "mpp": mpp})


def _from_features(raw: Path, source: Features, known: set[str]) -> pd.DataFrame:
    new = [slide for slide in feature_files(raw / source.path, source.slide) if slide not in known]
    if source.patient is None:
        if new:
            logger.warning("%s: not in the slide table, left out: %s", raw / source.path, listed(new))
        return _empty()
    patients = _patients(raw / source.path, new, source.patient, "features.patient")
    return pd.DataFrame({"slide_id": new, "patient_id": patients, "path": None, "mpp": np.nan})


def _patients(path: Path, slides: list[str], pattern: Pattern, field: str) -> list[str]:
    found = [re.search(pattern, slide) for slide in slides]
    wrong = [slide for slide, match in zip(slides, found, strict=True) if match is None]
    if wrong:
        raise InputError(path, f"no patient id ({pattern!r}) in {listed(wrong)}", f"Correct `{field}`")
    return [match[1] for match in found if match is not None]


def _empty() -> pd.DataFrame:
    empty: pd.DataFrame = SCHEMA.empty_table().to_pandas()
    return empty
