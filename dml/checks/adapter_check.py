"""An adapted encoder must not have seen the expression of patients that its features are to test."""

from pathlib import Path

from dml.cohorts.store_files import read_patients, read_slides, section_ids
from dml.core.errors import CheckFailed, listed
from dml.encoders.backends.adapter_description import read_adapted_encoder


def check_adapter(folder: Path, description: Path) -> None:
    """Refuse an encoder (``encoders/<name>.yaml``) whose adapter was trained on patients or sections of a cohort.

    Raises
    ------
    CheckFailed
        Naming them.
    """
    adapted = read_adapted_encoder(description)
    if adapted is None:
        return
    slides = read_slides(folder / "slides.parquet")
    here = {*read_patients(folder / "patients.parquet")["patient_id"], *slides["patient_id"]}
    here |= set(section_ids(slides))
    if both := sorted(here & {*adapted.trained_on.patients, *adapted.trained_on.sections}):
        problem = f"{description.stem} was adapted on the expression of {listed(both)}, which this cohort would test"
        raise CheckFailed(f"{folder}: {problem}. Adapt on another cohort, or set embed.encoder to the base encoder")
