"""One row a slide: its patient, its file, and its resolution if a table has one."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from dml.cohorts.description import CohortDescription
from dml.cohorts.provenance import Ledger, Record
from dml.core.errors import InputError, listed
from dml.core.files import write_parquet
from dml.core.identifiers import parse_identifier
from dml.readers.columns import Column, Pattern
from dml.readers.field_boxes import parse_boxes, read_field_file
from dml.readers.raw_files import Features, SlideFolder, SlideTable
from dml.readers.samples import describe_type, is_normal
from dml.readers.slide_files import feature_files, slide_files
from dml.readers.table_files import column, identifiers, keys, numbers, read_table, rows

logger = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [("slide_id", pa.string()), ("patient_id", pa.string()), ("path", pa.string()), ("mpp", pa.float64())]
)
OPTIONAL = pa.schema(
    [
        ("mpp_from", pa.string()),
        ("upsample", pa.bool_()),
        ("fields_px", pa.list_(pa.list_(pa.int64()))),
        ("section_id", pa.string()),
    ]
)
"""Columns that are there only where the cohort says them.

`slides.mpp_from`, `slides.upsample`, `slides.table.fields`; section_id where slides are regions of a section.
"""


def build_slides(description: CohortDescription, ledger: Ledger | None = None) -> pd.DataFrame:
    """Gather the slides of the slide table or folder, and those that exist as imported features only.

    Slides of normal tissue, recognised by a TCGA barcode (-11), are left out; the ledger gets the reason.

    Returns
    -------
    DataFrame
        Sorted by slide_id: patient_id, path (relative to the root of the repository; None for features only), mpp
        [microns per pixel] where a table has it (NaN elsewhere; the slide file itself is not opened here); and what of
        `OPTIONAL` the description says. ``fields_px`` holds boxes [x, y, width, height] in level-0 pixels, None where
        the whole slide is cut; several slides may be fields of one file.

    Raises
    ------
    InputError
        If a file or column is missing, a slide id is repeated or could not name a file, or a name does not match its
        pattern.
    """
    ledger = Ledger() if ledger is None else ledger
    raw = description.raw_folder
    parts = []
    if description.slides and description.slides.table:
        parts.append(_from_table(raw, description.slides.table))
    if description.slides and description.slides.folder:
        parts.append(_from_folder(raw, description.slides.folder))
    for source in description.features:
        listed_slides = {slide for part in parts for slide in part["slide_id"]}
        parts.append(_from_features(raw, source, listed_slides, ledger))
    slides = pd.concat([_empty(), *(p for p in parts if len(p))], ignore_index=True) if parts else _empty()
    _check_ids(slides)
    if description.slides and description.slides.mpp_from:
        slides["mpp_from"] = description.slides.mpp_from
    if description.slides and description.slides.upsample:
        slides["upsample"] = True
    reasons = [_reason(slide, patient, description.exclude) for slide, patient in _pairs(slides)]
    for (slide, patient), file, row, reason in zip(_pairs(slides), slides["file"], slides["row"], reasons, strict=True):
        status, rule = ("left out", reason) if reason else ("used", "its patient by table or pattern")
        number = None if pd.isna(row) else int(row)
        ledger.add([Record(patient, "slide", status, slide, file, slide, number, rule)])  # type: ignore[arg-type]
    left_out = pd.Series(reasons, index=slides.index, dtype=object) != ""
    if left_out.any():
        logger.warning("%d slides are left out: %s", left_out.sum(), listed(list(slides["slide_id"][left_out])))
    return slides[~left_out].drop(columns=["file", "row"]).sort_values("slide_id", ignore_index=True)


def write_slides(path: Path, slides: pd.DataFrame) -> None:
    """Write the table; columns of `OPTIONAL` only where there are any."""
    schema = pa.schema([*SCHEMA, *(field for field in OPTIONAL if field.name in slides)])
    write_parquet(path, pa.Table.from_pandas(slides[schema.names], schema=schema, preserve_index=False))


def _from_table(raw: Path, spec: SlideTable) -> pd.DataFrame:
    path = raw / spec.file
    frame = read_table(path)
    ids = identifiers(frame, path, spec.id)
    if ids.duplicated().any():
        again = ids.duplicated(keep=False)
        problem = f"repeated slide ids: {listed(sorted(set(ids[again])))} in {rows(again)}"
        raise InputError(path, problem, "Each slide has one row; delete or rename the others")
    patients = identifiers(frame, path, spec.patient)
    slides = pd.DataFrame({"slide_id": ids, "patient_id": patients, "path": None, "mpp": np.nan})
    slides["file"], slides["row"] = spec.file, frame.index
    if spec.path is not None:
        slides["path"] = [str(raw / name) for name in keys(frame, path, Column(column=spec.path))]
    if isinstance(spec.mpp, str):
        slides["mpp"] = numbers(column(frame, path, spec.mpp), path)
    elif isinstance(spec.mpp, float):
        slides["mpp"] = spec.mpp
    if spec.fields is not None:
        slides["fields_px"] = _fields(raw, spec.fields, frame, slides["slide_id"], path)
    return slides


def _fields(raw: Path, source: str, frame: pd.DataFrame, ids: pd.Series, path: Path) -> pd.Series:
    """Read the fields of every slide: of a file if the name has a suffix, else of a column of the slide table."""
    if not Path(source).suffix:
        boxes = parse_boxes(column(frame, path, source), path)
    else:
        by_slide = read_field_file(raw / source, set(ids))
        boxes = [by_slide.get(slide) for slide in ids]
    without = [slide for slide, each in zip(ids, boxes, strict=True) if each is None]
    if without:
        logger.warning("%s: %d slides without fields are cut whole: %s", source, len(without), listed(without))
    return pd.Series(boxes, index=ids.index, dtype=object)


def _from_folder(raw: Path, spec: SlideFolder) -> pd.DataFrame:
    folder = raw / spec.folder
    files = slide_files(folder, spec.slide)
    if spec.patient is None:
        patients = [spec.patient_id or ""] * len(files)
    else:
        patients = _patients(folder, list(files), spec.patient, "slides.folder.patient")
    paths = [str(folder / name) for name in files.values()]
    mpp = spec.mpp if isinstance(spec.mpp, float) else np.nan  # from spots: `spot_resolution`
    slides = pd.DataFrame({"slide_id": list(files), "patient_id": patients, "path": paths, "mpp": mpp})
    return slides.assign(file=[f"{spec.folder}/{name}" for name in files.values()], row=None)


def _from_features(raw: Path, source: Features, listed_slides: set[str], ledger: Ledger) -> pd.DataFrame:
    path = raw / source.path
    files = feature_files(path, source.slide)
    new = [slide for slide in files if slide not in listed_slides]
    if listed_slides:
        ledger.match(f"features of {source.path} to slides", files, listed_slides)
    if source.patient is None:
        if new:
            logger.warning("%s: not in the slide table, left out: %s", path, listed(new))
        rule = "features of a slide that is not in the slide table"
        ledger.add(Record("", "slide", "left out", s, f"{source.path}/{files[s]}", s, None, rule) for s in new)
        return _empty()
    patients = _patients(path, new, source.patient, "features.patient")
    slides = pd.DataFrame({"slide_id": new, "patient_id": patients, "path": None, "mpp": np.nan})
    return slides.assign(file=[f"{source.path}/{files[slide]}" for slide in new], row=None)


def _patients(path: Path, slides: list[str], pattern: Pattern, field: str) -> list[str]:
    matches = [re.search(pattern, slide) for slide in slides]
    wrong = [slide for slide, match in zip(slides, matches, strict=True) if match is None]
    if wrong:
        raise InputError(path, f"no patient id ({pattern!r}) in {listed(wrong)}", f"Correct `{field}`")
    return [match[1] for match in matches if match is not None]


def _reason(slide: str, patient: str, exclude: Mapping[str, str]) -> str:
    """Return why a slide is left out, '' if it is not."""
    if why := [exclude[each] for each in (slide, patient) if each in exclude]:
        return f"exclude: {why[0]}"
    return f"{describe_type(slide)}: not of the tumor" if is_normal(slide) else ""


def _pairs(slides: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(slides["slide_id"], slides["patient_id"], strict=True))


def _check_ids(slides: pd.DataFrame) -> None:
    """Refuse ids that could not name a file, and slides whose files would be one on some systems."""
    for slide, patient in _pairs(slides):
        parse_identifier(slide, "slide")
        parse_identifier(patient, f"patient of slide {slide}")
    folded = slides["slide_id"].str.casefold()
    again = folded.duplicated(keep=False) & ~slides["slide_id"].duplicated(keep=False)
    if again.any():
        problem = f"slides differ in upper and lower case only: {listed(sorted(slides['slide_id'][again]))}"
        raise InputError("slides", problem, "Their files would overwrite each other on some systems; rename one")


def _empty() -> pd.DataFrame:
    empty: pd.DataFrame = SCHEMA.empty_table().to_pandas()
    return empty.assign(file=pd.Series(dtype=object), row=pd.Series(dtype=object))
