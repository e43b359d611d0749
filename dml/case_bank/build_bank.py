"""Make a case bank: every learning patient's tokens from the members that did not train on the patient.

Shape legend: n patients, m members of all folds, d width of a token.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from dml.case_bank.bank import HELD_OUT, THUMBNAIL, CaseBank, case_row
from dml.core.device import torch_threads
from dml.core.errors import InputError
from dml.core.files import digest
from dml.core.types import SUBSPACES, Cohort
from dml.data.batches import make_batches
from dml.data.patient_reader import Patient
from dml.training.checkpoint import FoldModel

BATCH = 16
InnerFolds = Sequence[Mapping[str, int]]
"""Of each fold model, the inner fold of its learning patients (empty where it is not known)."""
Thumbnail = Callable[[str], bytes | None]
"""Patient to a small JPEG of a slide."""


def build_bank(
    folds: Sequence[FoldModel], cohort: Cohort, inner_folds: InnerFolds, thumbnail: Thumbnail | None = None
) -> CaseBank:
    """Embed the patients of a cohort that the model accepts and whose outcome or label is known.

    A patient's tokens are of the members that did not train on them: those of the folds that test the patient, and
    those that were selected on the patient's inner fold. A patient with whom every member was trained (as those who
    lack a modality, where only complete patients are tested) has tokens of all members, and is marked so.

    Parameters
    ----------
    folds : sequence of FoldModel
        The fold models of one version, or the model of one fold.
    cohort : Cohort
        The patients that they were trained and tested on.
    inner_folds : sequence of mapping
        One a fold model.
    thumbnail : callable, optional
        Makes the small pictures.

    Raises
    ------
    InputError
        If no patient is left.
    """
    task = folds[0].spec.preprocessor.task
    cases = [
        c for c in cohort.cases if folds[0].spec.accepts(c) and (c.survival is not None or c.has_target(task.name))
    ]
    if not cases:
        raise InputError(cohort.name, "no patient that the model accepts has an outcome", "Check patients.parquet")
    held_out = _held_out([case.patient_id for case in cases], folds, inner_folds)
    unseen = np.asarray(held_out.any(axis=1))
    used = held_out | ~unseen[:, None]
    part = cohort.subset({case.patient_id for case in cases})
    order = {case.patient_id: i for i, case in enumerate(cases)}
    raw: dict[str, np.ndarray] = {}
    for member, (fold, index) in enumerate(members_of(folds)):
        chosen = part.subset({case.patient_id for case in cases if used[order[case.patient_id], member]})
        for branch, tokens in embed(fold, chosen, [index]).items():
            empty = np.full((len(cases), used.shape[1], tokens.shape[2]), np.nan, np.float32)
            raw.setdefault(branch, empty)[[order[case.patient_id] for case in chosen.cases], member] = tokens[:, 0]
    rows = [case_row(c, digest(c.patient_id), cohort.name, bool(ok)) for c, ok in zip(cases, unseen, strict=True)]
    pictures = [thumbnail(case.patient_id) if thumbnail else None for case in cases]
    return CaseBank.of(_table(rows, pictures), raw)


def _table(rows: list[dict[str, object]], pictures: list[bytes | None]) -> pd.DataFrame:
    table = pd.DataFrame(rows).astype({HELD_OUT: bool, "event": object})
    return table.assign(**{THUMBNAIL: pd.Series(pictures, dtype=object)})


def members_of(folds: Sequence[FoldModel]) -> list[tuple[FoldModel, int]]:
    """Return the members of all folds in the order of a bank: fold model and number."""
    return [(fold, index) for fold in folds for index in range(len(fold.members))]


def embed_all(folds: Sequence[FoldModel], cohort: Cohort) -> dict[str, np.ndarray]:
    """Return the tokens (n m d) of some patients from every member, by branch."""
    each = [embed(fold, cohort, range(len(fold.members))) for fold in folds]
    return {branch: np.concatenate([part[branch] for part in each], axis=1) for branch in each[0]}


def embed(fold: FoldModel, cohort: Cohort, members: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the tokens (n m d) of some patients that the model accepts, from some members of a fold."""
    read = fold.reader(cohort)
    with torch_threads(1), torch.inference_mode():
        parts = [_tokens(fold, patients, members) for patients in _chunks([read(case) for case in cohort.cases])]
    if not parts:
        return {branch: np.zeros((0, len(members), fold.spec.model.width), np.float32) for branch in SUBSPACES}
    return {branch: np.concatenate([part[branch] for part in parts]) for branch in parts[0]}


def _chunks(patients: list[Patient]) -> list[list[Patient]]:
    return [patients[start : start + BATCH] for start in range(0, len(patients), BATCH)]


def _tokens(fold: FoldModel, patients: list[Patient], members: Sequence[int]) -> dict[str, np.ndarray]:
    """Tokens of a batch in the order of the patients, whatever the order of the batch."""
    (batch,) = make_batches(patients, fold.spec.preprocessor, len(patients))
    at = [batch.patient_ids.index(patient.patient_id) for patient in patients]
    outputs = [fold.members[member](batch).embeddings for member in members]
    branches = [name for name in outputs[0] if name in SUBSPACES] or list(outputs[0])
    return {b: torch.stack([out[b][at] for out in outputs], dim=1).float().numpy() for b in branches}


def _held_out(patients: Sequence[str], folds: Sequence[FoldModel], inner_folds: InnerFolds) -> np.ndarray:
    """Whether each member (column) did not train on each patient (row)."""
    columns = []
    for fold, inner in zip(folds, inner_folds, strict=True):
        trained = set(fold.spec.training_patient_hashes)
        number = max(inner.values(), default=-1) + 1
        tested = np.array([digest(patient) not in trained for patient in patients]) & bool(trained)
        for member in range(len(fold.members)):
            selected = [number > 0 and inner.get(patient) == member % number for patient in patients]
            columns.append(tested | np.array(selected, bool))
    return np.stack(columns, axis=1)
