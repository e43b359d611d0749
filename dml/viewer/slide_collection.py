"""The slides that the viewer shows: those of a cohort, or the files of a folder; each has an id that is no path."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

from dml.core.errors import InputError, first_line
from dml.core.files import digest
from dml.core.types import SURVIVAL, Case, Cohort, GeneGroups
from dml.data import feature_store
from dml.data.cohort_store import CohortStore
from dml.inference.file_access import FileAccess
from dml.inference.slide_inputs import FEATURES, SlideRequest, read_slides
from dml.training.checkpoint import ModelSpec
from dml.viewer.measured_layers import MeasuredSpots, read_measured_spots

OUTSIDE = "outside of the folder that is shown"
"""Status of a slide whose path, or a link in it, leads out."""
USABLE = "ok"


@dataclass(frozen=True, slots=True)
class SlideEntry:
    """One slide of the list.

    Attributes
    ----------
    key : str
        Its id in addresses: a hash, the same at every start.
    file : Path or None
        With its pixels, links followed; None without pixels.
    stated_mpp : float or None
        Microns per pixel of a table, for a file that does not say.
    status : str
        ``ok``, or why it has no map.
    outcome : str
        What is known of the patient; empty if nothing is.
    """

    key: str
    slide_id: str
    patient_id: str
    file: Path | None
    stated_mpp: float | None = None
    status: str = USABLE
    outcome: str = ""


class PatientTokens(NamedTuple):
    """One patient as a cohort of one case, and the slides in the order of `Bag.slide`."""

    patient: Cohort
    slides: tuple[str, ...]


class SlideCollection(Protocol):
    """Lists slides and reads the tokens of a patient."""

    name: str

    def entries(self) -> list[SlideEntry]:
        """List the slides."""

    def read_patient(self, patient_id: str) -> PatientTokens:
        """Read all tokens of one patient; InputError where it has none."""

    def read_spots(self, entry: SlideEntry, mpp: float) -> MeasuredSpots | None:
        """Read the spots of a slide of some microns per pixel; None without any."""


class CohortSlides:
    """Slides of ``data/<cohort>``, tokens from its feature store; the transcriptome if the model reads it."""

    def __init__(self, store: CohortStore, spec: ModelSpec) -> None:
        self.name, self._store, self._spec = store.folder.name, store, spec

    def entries(self) -> list[SlideEntry]:
        """List the slides by id.

        Raises
        ------
        InputError
            If a table of the cohort is missing or damaged.
        """
        slides, status = self._store.slides(), _status_by_slide(self._store.manifest(), self._spec)
        outcomes = {case.patient_id: case for case in self._store.clinical_cohort().cases}
        rows = []
        for row in slides.sort_values(["patient_id", "slide_id"]).to_dict("records"):
            slide_id, patient = str(row["slide_id"]), str(row["patient_id"])
            file, problem = self._file(row["path"])
            outcome = _outcome(outcomes.get(patient), self._spec.preprocessor.task.name)
            mpp = _stated(row)
            stated = problem or status.get(slide_id, "no features: run dvc repro extract_features")
            rows.append(SlideEntry(_key(self.name, slide_id), slide_id, patient, file, mpp, stated, outcome))
        return rows

    def _file(self, path: object) -> tuple[Path | None, str]:
        """Return the file behind a path of the slide table, and why it is not shown.

        It must lie below ``data/raw/<a cohort>``, which may itself be a link.
        """
        if not isinstance(path, str) or not path:
            return None, ""
        raw = self._store.raw_folder.parent
        try:
            cohort, *rest = Path(path).relative_to(raw).parts
            return FileAccess((raw / cohort).resolve()).file(Path(*rest)), ""
        except InputError:
            missing = not Path(path).exists()
            return None, "" if missing else OUTSIDE
        except (ValueError, TypeError):
            return None, OUTSIDE

    def read_patient(self, patient_id: str) -> PatientTokens:
        """Read the tokens of one patient.

        Raises
        ------
        InputError
            If a slide has no features, or they are damaged.
        """
        prepared, manifest = self._spec.preprocessor, self._store.manifest()
        rows = manifest[(manifest["status"] == "ok") & (manifest["patient_id"] == patient_id)]
        slides = tuple(sorted(set(rows["slide_id"])))
        if not slides:
            raise InputError(patient_id, "no features of its slides", "Run: dvc repro extract_features")
        bags = feature_store.read_bags(self._store.features_folder / prepared.encoder, slides, prepared.mpps)
        clinical = self._store.clinical_cohort()
        (case,) = clinical.subset({patient_id}).cases or (Case(patient_id, "", {}),)
        if "genes" not in self._spec.entry.inputs:
            return PatientTokens(replace(clinical, cases=(replace(case, bags=bags),)), slides)
        matrix = self._store.expression()
        values = dict(zip(matrix.patient_ids, matrix.values, strict=True)).get(patient_id)
        groups = self._store.gene_groups().groups
        case = replace(case, bags=bags, expression=values)
        return PatientTokens(
            Cohort(clinical.name, (case,), matrix.genes, matrix.unit, groups, clinical.classes), slides
        )

    def read_spots(self, entry: SlideEntry, mpp: float) -> MeasuredSpots | None:
        """Read the spots of a section with what was measured there; None in a cohort that is not spatial."""
        prepared = self._spec.preprocessor
        groups = GeneGroups(prepared.tumor_genes, prepared.tme_genes)
        return read_measured_spots(self._store, entry.slide_id, mpp, groups)


class FolderSlides:
    """Slides and feature files below a folder; a slide is tiled and encoded when it is first opened.

    Parameters
    ----------
    folder : Path
        Or one file.
    table : DataFrame
        patient_id and path of each file, and mpp where it is stated (`dml.registry.predict.request_table`).
    """

    def __init__(self, folder: Path, table: pd.DataFrame, spec: ModelSpec) -> None:
        self._root = (folder if folder.is_dir() else folder.parent).resolve()
        self.name, self._access, self._spec, self._table = (
            folder.name or str(folder),
            FileAccess(self._root),
            spec,
            table,
        )

    def entries(self) -> list[SlideEntry]:
        """List the files by patient; what lies outside of the folder is listed, and not opened."""
        rows = []
        for row in self._table.to_dict("records"):
            path, patient = Path(row["path"]).absolute(), str(row["patient_id"])
            file, status = self._file(path)
            key = _key(self.name, path.as_posix().removeprefix(self._root.as_posix()))
            rows.append(SlideEntry(key, path.stem, patient, file, _stated(row), status))
        return sorted(rows, key=lambda entry: (entry.patient_id, entry.slide_id))

    def read_spots(self, entry: SlideEntry, mpp: float) -> MeasuredSpots | None:
        """Return None: files of a folder have no spots."""
        return None

    def _file(self, path: Path) -> tuple[Path | None, str]:
        try:
            file = self._access.file(path)
        except InputError:
            return None, OUTSIDE
        return (None if path.suffix in FEATURES else file), USABLE

    def read_patient(self, patient_id: str) -> PatientTokens:
        """Read features, or tile and encode slides.

        Raises
        ------
        DmlError
            If no slide of the patient can be used; the message has every reason.
        """
        rows = self._table[self._table["patient_id"] == patient_id].to_dict("records")
        requests = [SlideRequest(Path(row["path"]).absolute(), _stated(row)) for row in rows]
        inputs = read_slides(requests, self._spec, self._access)
        prepared = self._spec.preprocessor
        groups = GeneGroups(prepared.tumor_genes, prepared.tme_genes)
        case = Case(patient_id, "", inputs.bags)
        return PatientTokens(Cohort(self.name, (case,), (), prepared.unit, groups, {}), inputs.slides)


def _stated(row: Mapping[Hashable, Any]) -> float | None:
    mpp = row.get("mpp")
    return None if mpp is None or pd.isna(mpp) else float(mpp)


def _key(collection: str, name: str) -> str:
    return digest(collection, name)[:12]


def _status_by_slide(manifest: pd.DataFrame, spec: ModelSpec) -> dict[str, str]:
    needed = set(spec.preprocessor.mpps)
    status = {}
    for slide, rows in manifest.groupby("slide_id"):
        done = set(rows.loc[rows["status"] == USABLE, "mpp"])
        reasons = [str(reason) for reason in rows.get("reason", pd.Series(dtype=object)).dropna() if reason]
        missing = ", ".join(f"{mpp:g}" for mpp in sorted(needed - done))
        failed = first_line(ValueError(reasons[0])) if reasons else f"no tokens at {missing} microns per pixel"
        status[str(slide)] = USABLE if needed <= done else failed
    return status


def _outcome(case: Case | None, task: str) -> str:
    target = None if case is None else case.target(task)
    if target is None:
        return ""
    if task == SURVIVAL:
        assert case is not None
        assert case.survival is not None
        return f"{'died' if case.survival.event else 'censored'} at {case.survival.days:.0f} days"
    return f"{target:.3g}" if isinstance(target, float) else str(target)


def by_key(entries: Sequence[SlideEntry]) -> dict[str, SlideEntry]:
    """Return the entries by their id in addresses."""
    return {entry.key: entry for entry in entries}
