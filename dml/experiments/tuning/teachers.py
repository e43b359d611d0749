"""Teachers that a study distils: trained by `dvc repro`, not by a trial, and asked once by all trials of a worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dml.config.params import Params
from dml.core.errors import InputError
from dml.core.types import Case, Cohort
from dml.data.batches import Patient, PatientReader
from dml.data.preprocessing import Preprocessor
from dml.training.checkpoint import FoldModel
from dml.training.distillation import DistillationTargets
from dml.training.linear_offset import LinearOffset

Asked = tuple[int, tuple[str, ...]]
"""Which member, about whom."""
Known = tuple[str, int | None]
"""A patient and his inner part."""


class ReadOnce(PatientReader):
    """Reads a patient the first time only; all cohorts it is used for hold the same patients."""

    def __init__(
        self,
        preprocessor: Preprocessor,
        cohort: Cohort,
        start: LinearOffset | None,
        parts: Mapping[str, int] | None,
        kept: dict[Known, Patient],
    ) -> None:
        super().__init__(preprocessor, cohort, start, parts)
        self._part_of, self._kept = parts or {}, kept

    def __call__(self, case: Case) -> Patient:
        """Read one patient, or return what was read before."""
        known = case.patient_id, self._part_of.get(case.patient_id)
        if known not in self._kept:
            self._kept[known] = super().__call__(case)
        return self._kept[known]


@dataclass(frozen=True, slots=True)
class AskedOnce(FoldModel):
    """A teacher of one fold that keeps its lessons: every trial of a study asks about the same patients."""

    patients: dict[Known, Patient] = field(default_factory=dict)
    taught: dict[Asked, dict[str, DistillationTargets]] = field(default_factory=dict)

    def reader(self, cohort: Cohort, parts: Mapping[str, int] | None = None) -> PatientReader:
        """Return what reads patients, each of them once."""
        return ReadOnce(self.spec.preprocessor, cohort, self.spec.linear, parts, self.patients)

    def lessons(self, patients: Sequence[Patient], member: int, batch_size: int = 16) -> dict[str, DistillationTargets]:
        """Return what `FoldModel.lessons` says, computed the first time only."""
        asked = member, tuple(patient.patient_id for patient in patients)
        if asked not in self.taught:
            self.taught[asked] = FoldModel.lessons(self, patients, member, batch_size)
        return self.taught[asked]


def teacher_folder(params: Params, task: str) -> Path:
    """Where `dvc repro` leaves the teachers of a task."""
    return Path("models") / params.cohort / task / "teacher"


def read_teachers(params: Params, task: str, folds: Sequence[int]) -> dict[int, AskedOnce]:
    """Read the teachers of some folds.

    Raises
    ------
    InputError
        If one is missing or was trained with other parameters.
    """
    return {fold: _read(teacher_folder(params, task) / f"fold-{fold}", params) for fold in folds}


def _read(folder: Path, params: Params) -> AskedOnce:
    if not folder.exists():
        raise InputError(folder, "no teacher to distil", "Train the teachers first: dvc repro")
    found = FoldModel.load(folder)
    if (found.spec.model, found.spec.teacher) != (params.model, params.teacher):
        raise InputError(folder, "this teacher was trained with other `model` or `teacher` parameters", "Run dvc repro")
    return AskedOnce(found.spec, found.members)
