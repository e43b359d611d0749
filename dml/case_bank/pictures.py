"""Small pictures of the patients' slides for a case bank; none where the cohort has no pixels."""

import logging
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

from dml.core.errors import DmlError, first_line
from dml.data.cohort_store import CohortStore
from dml.slides.reader import open_slide

log = logging.getLogger(__name__)

SIDE = 96
"""Longer side in pixels."""
QUALITY = 70


def make_picture_reader(store: CohortStore) -> Callable[[str], bytes | None]:
    """Return a function from a patient to a JPEG of the patient's first slide that can be read, or None."""
    slides = store.slides()
    with_file = slides[slides["path"].notna() & slides["patient_id"].notna()]
    paths = {str(patient): rows for patient, rows in with_file.groupby("patient_id")}

    def picture(patient_id: str) -> bytes | None:
        for row in paths.get(patient_id, with_file.iloc[:0]).to_dict("records"):
            stated = row.get("mpp")
            try:
                return read_picture(Path(row["path"]), None if stated is None or pd.isna(stated) else float(stated))
            except (DmlError, OSError, ValueError) as error:
                log.warning("no picture of %s: %s", row["path"], first_line(error))
        return None

    return picture


def read_picture(path: Path, mpp: float | None = None, side: int = SIDE) -> bytes:
    """Return a slide as a small JPEG; the label and macro images of the file are never read.

    Raises
    ------
    DmlError
        If the slide cannot be opened.
    """
    with open_slide(path, mpp, None if mpp is None else "slide_list") as slide:
        image = Image.fromarray(slide.thumbnail(max(max(slide.dimensions) * slide.mpp / side, slide.mpp)))
    image.thumbnail((side, side))
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
