"""A table of slides in, one row per patient out: what a registered model does.

Out-of-scope input (another encoder or resolution, no tissue, unreadable) is a refused row with its reason, whatever
else is in the batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from dml.core.errors import InputError
from dml.core.types import Case, Cohort, GeneGroups
from dml.features.encoders.backends.tile_encoder import one_core_each
from dml.inference.attention_maps import attention as relevance_of
from dml.inference.ensemble import Ensemble
from dml.inference.expression_inputs import Transcript, read_transcript
from dml.inference.slide_inputs import Unusable, read_slides

_COVARIATES = ("age", "sex")
RELEVANCE = "attention"
"""Column, and inference parameter that asks for it."""
NO_TRANSCRIPTOME = "predicted without transcriptome"
"""Reason beside a teacher's answer for a patient whose expression is not given: it was trained to cope with that."""
_AT_ONCE = 16
"""Patients whose tokens are in memory together."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What was read for one patient; `case` is None for a refused one."""

    patient_id: str
    reason: str
    case: Case | None = None
    genes: tuple[str, ...] = ()
    slides: tuple[str, ...] = ()


class Answering:
    """Answers for patients.

    Parameters
    ----------
    ensemble : Ensemble
        The fold models.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble

    def __call__(self, table: pd.DataFrame, attention: bool = False) -> pd.DataFrame:
        """Predict every patient of a table.

        Parameters
        ----------
        table : DataFrame
            One row a slide: patient_id, path (a slide, or its features), and optionally expression (path to a table
            that has the patient), age (years), sex (1 female, 0 male). Rows of one patient are taken together.
        attention : bool
            Add a column ``attention``: as JSON, one object a tile (see `dml.inference.attention_maps.attention`).

        Returns
        -------
        DataFrame
            One row a patient, in order of appearance: patient_id, status (ok or refused), reason (also for ok: what was
            left out), risk and survival_<days> or p_<class> probabilities, spread over the folds, and risk_group or
            prediction; NaN and None where refused.
        """
        groups = [(str(patient), rows) for patient, rows in table.groupby("patient_id", sort=False, dropna=False)]
        parts = [self._answer(groups[i : i + _AT_ONCE], attention) for i in range(0, len(groups), _AT_ONCE)]
        asked = [RELEVANCE] if attention else []
        columns = ["patient_id", "status", "reason", *self.ensemble.outputs, self.ensemble.decision, *asked]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    def _answer(self, groups: Sequence[tuple[str, pd.DataFrame]], attention: bool) -> pd.DataFrame:
        requests = [self._request(patient, rows) for patient, rows in groups]
        with one_core_each():  # of one patient at a time the operators are small: threads only wait for each other
            said = [self.ensemble.predict(cohort) for cohort in _cohorts(requests, self.ensemble)]
            looked = self._relevance(requests) if attention else {}
        empty = dict.fromkeys(self.ensemble.outputs, np.nan) | {self.ensemble.decision: None}
        known = {row["patient_id"]: row for table in said for row in table.to_dict("records")}
        rows = [
            {
                **(known.get(request.patient_id) or empty),
                "patient_id": request.patient_id,
                "status": "ok" if request.case else "refused",
                "reason": request.reason,
                RELEVANCE: looked.get(request.patient_id),
            }
            for request in requests
        ]
        return pd.DataFrame(rows).astype(dict.fromkeys(self.ensemble.outputs, float))

    def _relevance(self, requests: Sequence[_Request]) -> dict[str, str]:
        found = {}
        for request in (request for request in requests if request.case):
            (cohort,) = _cohorts([request], self.ensemble)
            rows = relevance_of(self.ensemble, cohort, request.slides)
            found[request.patient_id] = rows.to_json(orient="records", double_precision=8)
        return found

    def _request(self, patient: str, rows: pd.DataFrame) -> _Request:
        """Read one patient's inputs."""
        try:
            if rows["patient_id"].isna().any() or rows["path"].isna().any():
                raise InputError("request", "a row without patient_id or path", "Give both")
            pyramid, slides, reasons = read_slides([Path(path) for path in rows["path"]], self.ensemble.spec)
            transcript = self._transcript(patient, rows)
        except (InputError, Unusable) as error:
            return _Request(patient, str(error))
        known = {
            name: pd.to_numeric(rows[name], errors="coerce").dropna() for name in _COVARIATES if name in rows.columns
        }
        covariates = {name: float(values.iloc[0]) for name, values in known.items() if len(values)}
        if transcript is None and self.ensemble.spec.role == "teacher":
            reasons = [*reasons, NO_TRANSCRIPTOME]
        values = None if transcript is None else transcript.values
        case = Case(patient, "", pyramid, expression=values, covariates=covariates)
        return _Request(patient, "; ".join(reasons), case, () if transcript is None else transcript.genes, slides)

    def _transcript(self, patient: str, rows: pd.DataFrame) -> Transcript | None:
        path = _first(rows, "expression")
        if path is None or self.ensemble.spec.role == "student":
            return None
        return read_transcript(Path(str(path)), patient, self.ensemble.spec.preprocessor)


def _first(rows: pd.DataFrame, column: str) -> object | None:
    """First known value of an optional column."""
    known = rows[column].dropna() if column in rows.columns else rows.iloc[:0, 0]
    return known.iloc[0] if len(known) and known.iloc[0] != "" else None


def _cohorts(requests: Sequence[_Request], ensemble: Ensemble) -> Iterator[Cohort]:
    """Patients that can be predicted, those with the same genes together."""
    preprocessor = ensemble.spec.preprocessor
    groups = GeneGroups(preprocessor.tumor_genes, preprocessor.tme_genes)
    accepted = sorted((r for r in requests if r.case), key=lambda request: request.genes)
    for genes, members in groupby(accepted, key=lambda request: request.genes):
        cases = tuple(request.case for request in members if request.case)
        yield Cohort("request", cases, genes, preprocessor.unit, groups, {})
