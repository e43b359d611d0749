"""Similar cases of a patient of a request: the patient's tokens from every member, compared with the case bank."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dml.case_bank.bank import CASES, FOLDER, PATIENT, SITE, CaseBank
from dml.case_bank.build_bank import embed_all
from dml.case_bank.similar_cases import SimilarCases, find_similar
from dml.core.errors import InputError
from dml.core.files import digest
from dml.core.types import Cohort
from dml.evaluation.results import PAIR
from dml.inference.ensemble import Ensemble
from dml.training.checkpoint import ModelSpec


class SimilarRequest(NamedTuple):
    """How many neighbours are wanted, and whether those of the patient's hospital may be among them."""

    k: int
    same_site: bool = False


def find_similar_patients(
    ensemble: Ensemble, bank: CaseBank, patient: Cohort, site: str | None, same_site: bool = False
) -> SimilarCases:
    """Compare the one patient of a cohort with the bank of an ensemble.

    A patient that some folds were trained with is embedded by the others only, as the cases are.
    """
    (case,) = patient.cases
    tokens = {branch: values[0].astype(float) for branch, values in embed_all(ensemble.folds, patient).items()}
    known = digest(case.patient_id)
    trained = [known in fold.spec.training_patient_hashes for fold in ensemble.folds for _ in fold.members]
    if any(trained) and not all(trained):
        tokens = {branch: np.where(np.array(trained)[:, None], np.nan, values) for branch, values in tokens.items()}
    return find_similar(bank, tokens, case.patient_id, site, same_site)


def describe_similar(
    ensemble: Ensemble, bank: CaseBank, patient: Cohort, site: str | None, request: SimilarRequest
) -> dict[str, Any]:
    """Return the similar cases of a patient as JSON-able content (see `SimilarCases.describe`)."""
    site = site or site_in_bank(bank, patient.cases[0].patient_id)
    similar = find_similar_patients(ensemble, bank, patient, site, request.same_site)
    spec = ensemble.spec
    return similar.describe(spec.preprocessor.task, spec.years, request.k) | {"k": request.k, "site": site}


def site_in_bank(bank: CaseBank, patient_id: str) -> str | None:
    """Return the hospital of a patient who is a case, too."""
    known = bank.cases.loc[bank.cases[PATIENT] == digest(patient_id), SITE]
    return str(known.iloc[0]) if len(known) else None


def read_bank(folder: Path) -> CaseBank | None:
    """Read the case bank that was packed with a model's folds, or made for them; None if there is none.

    Parameters
    ----------
    folder : Path
        ``artifacts/folds`` of a version, or ``models/<cohort>/<task>/<model>``.
    """
    beside = folder.parent / FOLDER
    parts = folder.absolute().parts[-4:]
    made = (
        Path("reports").joinpath(*parts[1:3], FOLDER, parts[3]) if len(parts) == 4 and parts[0] == "models" else beside
    )
    return next((CaseBank.load(path) for path in (beside, made) if (path / CASES).exists()), None)


def require_bank(bank: CaseBank | None, spec: ModelSpec) -> CaseBank:
    """Return the bank of a model.

    Raises
    ------
    InputError
        If there is none.
    """
    if bank is None:
        raise InputError(f"{spec.name}, {spec.preprocessor.task.name}", "no case bank", missing_bank_remedy(spec))
    return bank


def missing_bank_remedy(spec: ModelSpec) -> str:
    """Return how a model without case bank gets one, or that it cannot."""
    if spec.name not in PAIR:
        return f"Only {' and '.join(PAIR)} have one; ask them"
    task = spec.preprocessor.task.name
    return (
        f"Fold models: build it where they were trained (dml cohort use, then dvc repro case_bank@{task}). "
        f"A version that was registered before case banks were: then also dvc repro register@{task}, "
        f"and ask the new version, @challenger"
    )
