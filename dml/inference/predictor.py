"""`Predictor`: a table of slides to one row per patient, which is what a registered model does.

Out-of-scope input (another encoder or resolution, no tissue, unreadable) is a refused row with its reason, whatever
else is in the batch.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dml.case_bank.bank import CaseBank
from dml.core.device import torch_threads
from dml.core.errors import InputError
from dml.core.types import CLINICAL, Case, Cohort, GeneGroups
from dml.inference.attention_maps import attention_map
from dml.inference.ensemble import Ensemble
from dml.inference.expression_inputs import ExpressionProfile, read_profile
from dml.inference.file_access import ANY_FILE, FileAccess
from dml.inference.input_summary import SlideFacts, read_slide_facts, summarise_inputs
from dml.inference.prediction_log import BY_FOLD, INPUTS
from dml.inference.similar_patients import SimilarRequest, describe_similar, require_bank
from dml.inference.slide_inputs import NoUsableSlide, SlideRequest, read_slides
from dml.inference.zoom import TileSelector

ATTENTION, SIMILAR, SAME_SITE = "attention", "similar", "same_site"
"""Columns, and inference parameters that ask for them; the last allows similar patients of the same hospital."""
NO_EXPRESSION = "predicted without transcriptome"
"""Reason beside a teacher's prediction for a patient without expression: it was trained for this case, too."""
WITHOUT_CLINICAL = "predicted without"
"""Reason beside a prediction for a patient of whom some clinical inputs are unknown, which are named."""
_BATCH = 16
"""Patients whose tokens are in memory together."""


@dataclass(frozen=True, slots=True)
class _PatientInputs:
    """What was read for one patient; `case` is None for a refused one."""

    patient_id: str
    reason: str
    case: Case | None = None
    genes: tuple[str, ...] = ()
    slides: tuple[str, ...] = ()
    site: str | None = None


class ReadPatient(NamedTuple):
    """A patient of a request as a cohort of one case, the slides in the order of `Bag.slide`, and what was left out."""

    cohort: Cohort
    slides: tuple[str, ...]
    reason: str
    site: str | None


class Predictor:
    """Predicts patients from slide, feature and expression files.

    Parameters
    ----------
    ensemble : Ensemble
        The fold models.
    access : FileAccess
        Which files may be read; any by default.
    bank : CaseBank, optional
        The learning patients among which similar ones are searched.

    Examples
    --------
    >>> from dml.training.example_model import example_model
    >>> predictor = Predictor(Ensemble((example_model(),)))
    >>> predictor(pd.DataFrame({"patient_id": ["P1"], "path": ["absent.svs"]}))[["status", "reason"]].values.tolist()
    [['refused', 'absent.svs: the file does not exist. Check the path']]
    """

    def __init__(self, ensemble: Ensemble, access: FileAccess = ANY_FILE, bank: CaseBank | None = None) -> None:
        self.ensemble, self._access, self._bank = ensemble, access, bank
        zooms = ensemble.spec.distillation.zoom is not None and "genes" not in ensemble.spec.entry.inputs
        self._select = TileSelector(ensemble) if zooms else None

    def __call__(
        self,
        table: pd.DataFrame,
        attention: bool = False,
        similar: int = 0,
        same_site: bool = False,
        inputs: bool = False,
    ) -> pd.DataFrame:
        """Predict every patient of a table.

        Parameters
        ----------
        table : DataFrame
            One row a slide: patient_id, path (a slide, or its features), and optionally expression (path to a table
            that has the patient), age (years), sex (1 female, 0 male), site (hospital, as the model's cohort codes it:
            similar patients are of others), mpp (microns per pixel of a slide whose file
            does not say), upsample (whether to interpolate where that is too coarse), and the model's clinical inputs.
            Rows of one patient are taken together.
        attention : bool
            Add a column ``attention``: as JSON, one object a tile (see `dml.inference.attention_maps.attention_map`).
        similar : int
            Add a column ``similar``: as JSON, so many most similar learning patients in each space and their outcomes
            (see `dml.case_bank.similar_cases.SimilarCases.describe`).
        same_site : bool
            Allow similar patients of the same hospital.
        inputs : bool
            Add a column ``inputs``: as JSON, what was read (see `dml.inference.input_summary.summarise_inputs`) and
            the outputs of each fold, for the log.

        Returns
        -------
        DataFrame
            One row a patient, in order of appearance: patient_id, status (ok or refused), reason (also for ok: what was
            left out), risk and survival_<days> or p_<class> probabilities, spread over the folds, and risk_group or
            prediction; NaN and None where refused.
        """
        wanted = SimilarRequest(similar, same_site) if similar else None
        if wanted is not None:
            require_bank(self._bank, self.ensemble.spec)
        groups = [(str(patient), rows) for patient, rows in table.groupby("patient_id", sort=False, dropna=False)]
        starts = range(0, len(groups), _BATCH)
        parts = [self._predict(groups[i : i + _BATCH], attention, wanted, inputs) for i in starts]
        extra = [*([ATTENTION] if attention else []), *([SIMILAR] if wanted else []), *([INPUTS] if inputs else [])]
        columns = ["patient_id", "status", "reason", *self.ensemble.outputs, *self.ensemble.decisions, *extra]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    def load_encoder(self) -> None:
        """Load the encoder of slides now and not for the first; features of others need none."""
        from dml.encoders import registry as encoders
        from dml.features.encode_slide import load_slide_encoder

        spec = self.ensemble.spec
        if spec.preprocessor.encoder in encoders.names() and not encoders.get(spec.preprocessor.encoder).import_only:
            load_slide_encoder(spec.preprocessor.encoder, spec.embed)

    def read_patient(self, patient_id: str, rows: pd.DataFrame) -> "ReadPatient":
        """Read one patient of a request.

        Raises
        ------
        InputError
            If the patient would be refused.
        """
        read = self._read(patient_id, rows)
        if read.case is None:
            raise InputError(patient_id, read.reason, "Give a slide that the model can read")
        (cohort,) = _cohorts([read], self.ensemble)
        return ReadPatient(cohort, read.slides, read.reason, read.site)

    def _predict(
        self,
        groups: Sequence[tuple[str, pd.DataFrame]],
        attention: bool,
        similar: SimilarRequest | None,
        inputs: bool,
    ) -> pd.DataFrame:
        patients = [self._read(patient, rows) for patient, rows in groups]
        with torch_threads(1):  # of one patient at a time the operators are small: threads only wait for each other
            by_fold = [self.ensemble.predict_folds(cohort) for cohort in _cohorts(patients, self.ensemble)]
            predictions = [self.ensemble.average(each) for each in by_fold]
            attention_maps = self._attention(patients) if attention else {}
            neighbours = self._similar(patients, similar) if similar else {}
        summaries = self._summarise(groups, patients, by_fold) if inputs else {}
        refused = dict.fromkeys(self.ensemble.outputs, np.nan) | dict.fromkeys(self.ensemble.decisions)
        outputs = {row["patient_id"]: row for table in predictions for row in table.to_dict("records")}
        rows = [
            {
                **(outputs.get(patient.patient_id) or refused),
                "patient_id": patient.patient_id,
                "status": "ok" if patient.case else "refused",
                "reason": patient.reason,
                ATTENTION: attention_maps.get(patient.patient_id),
                SIMILAR: neighbours.get(patient.patient_id),
                INPUTS: summaries.get(patient.patient_id),
            }
            for patient in patients
        ]
        return pd.DataFrame(rows).astype(dict.fromkeys(self.ensemble.outputs, float))

    def _attention(self, patients: Sequence[_PatientInputs]) -> dict[str, str]:
        maps = {}
        for patient in (patient for patient in patients if patient.case):
            (cohort,) = _cohorts([patient], self.ensemble)
            rows = attention_map(self.ensemble, cohort, patient.slides)
            maps[patient.patient_id] = rows.to_json(orient="records", double_precision=8)
        return maps

    def _summarise(
        self,
        groups: Sequence[tuple[str, pd.DataFrame]],
        patients: Sequence[_PatientInputs],
        by_fold: Sequence[Sequence[pd.DataFrame]],
    ) -> dict[str, str]:
        """Return what was read of each patient, and the outputs of each fold, as JSON."""
        columns = [name for name in self.ensemble.outputs if name != "spread"]
        outputs = {
            str(patient): np.stack([table[columns].to_numpy(float)[i] for table in each]).tolist()
            for each in by_fold
            for i, patient in enumerate(each[0]["patient_id"])
        }
        summaries = {}
        for (_, rows), patient in zip(groups, patients, strict=True):
            if patient.case is not None:
                facts = [self._slide_facts(request) for request in _requests(rows)]
                summary = summarise_inputs(patient.case, patient.genes, self.ensemble.spec, facts)
                summaries[patient.patient_id] = json.dumps({**summary, BY_FOLD: outputs[patient.patient_id]})
        return summaries

    def _slide_facts(self, request: SlideRequest) -> SlideFacts:
        try:
            return read_slide_facts(self._access.file(request.path), request.mpp)
        except InputError:  # one of several slides, which was left out
            return SlideFacts()

    def _similar(self, patients: Sequence[_PatientInputs], request: SimilarRequest) -> dict[str, str]:
        bank, described = require_bank(self._bank, self.ensemble.spec), {}
        for patient in (patient for patient in patients if patient.case):
            (cohort,) = _cohorts([patient], self.ensemble)
            content = describe_similar(self.ensemble, bank, cohort, patient.site, request)
            described[patient.patient_id] = json.dumps(content)
        return described

    def _read(self, patient: str, rows: pd.DataFrame) -> _PatientInputs:
        """Read one patient's inputs."""
        clinical = self.ensemble.spec.preprocessor.clinical
        try:
            if rows["patient_id"].isna().any() or rows["path"].isna().any():
                raise InputError("request", "a row without patient_id or path", "Give both")
            inputs = read_slides([*_requests(rows)], self.ensemble.spec, self._access, self._select)
            profile = self._expression(patient, rows)
            known = {} if clinical is None else clinical.parse({name: _first(rows, name) for name in clinical.names})
        except (InputError, NoUsableSlide) as error:
            return _PatientInputs(patient, str(error))
        values = {
            name: pd.to_numeric(rows[name], errors="coerce").dropna() for name in CLINICAL if name in rows.columns
        }
        covariates = {name: float(column.iloc[0]) for name, column in values.items() if len(column)}
        covariates |= {name: value for name, value in known.items() if not isinstance(value, str)}
        labels = {name: value for name, value in known.items() if isinstance(value, str)}
        reasons = inputs.reasons
        if clinical is not None and (unknown := [name for name in clinical.names if name not in known]):
            reasons = [*reasons, f"{WITHOUT_CLINICAL} {', '.join(unknown)}"]
        if profile is None and "genes" in self.ensemble.spec.entry.inputs:
            reasons = [*reasons, NO_EXPRESSION]
        genes, expression = ((), None) if profile is None else (profile.genes, profile.values)
        case = Case(patient, "", inputs.bags, expression=expression, covariates=covariates, labels=labels)
        site = _first(rows, "site")
        named = None if site is None else str(site)
        return _PatientInputs(patient, "; ".join(reasons), case, genes, inputs.slides, named)

    def _expression(self, patient: str, rows: pd.DataFrame) -> ExpressionProfile | None:
        path = _first(rows, "expression")
        if path is None or "genes" not in self.ensemble.spec.entry.inputs:
            return None
        return read_profile(self._access.file(Path(str(path))), patient, self.ensemble.spec.preprocessor)


def _requests(rows: pd.DataFrame) -> Iterator[SlideRequest]:
    for row in rows.to_dict("records"):
        mpp, upsample = (None if pd.isna(row.get(name)) else row[name] for name in ("mpp", "upsample"))
        yield SlideRequest(Path(row["path"]), None if mpp is None else float(mpp), bool(upsample))


def _first(rows: pd.DataFrame, column: str) -> object | None:
    """First known value of an optional column."""
    values = rows[column].dropna() if column in rows.columns else rows.iloc[:0, 0]
    return values.iloc[0] if len(values) and values.iloc[0] != "" else None


def _cohorts(patients: Sequence[_PatientInputs], ensemble: Ensemble) -> Iterator[Cohort]:
    """Patients that can be predicted, those with the same genes together."""
    preprocessor = ensemble.spec.preprocessor
    groups = GeneGroups(preprocessor.tumor_genes, preprocessor.tme_genes)
    accepted = sorted((p for p in patients if p.case), key=lambda patient: patient.genes)
    for genes, members in groupby(accepted, key=lambda patient: patient.genes):
        cases = tuple(patient.case for patient in members if patient.case)
        yield Cohort("request", cases, genes, preprocessor.unit, groups, {})
