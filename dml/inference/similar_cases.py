"""Similar cases: the learning patients nearest to a new one in the space of tumor, of microenvironment, or of both.

A patient of the bank has a distance from every fold in which it was a learning patient, in the space of the member that
did not train on it (`dml.training.case_bank`); its distance is the mean over the folds. What became of the nearest is
summarised: their Kaplan-Meier curve, the shares of their classes, or their numbers.

Shape legend: n patients of the bank, k neighbours.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import binomtest

from dml.core.errors import InputError
from dml.core.files import digest
from dml.core.tasks import horizon_columns
from dml.core.types import Cohort
from dml.inference.ensemble import Ensemble, fold_folders
from dml.training.case_bank import FILE, CaseBank, embed
from dml.training.checkpoint import FoldModel

BOTH = "both"
"""Distance over all branches: the root of the mean square of theirs."""
DUPLICATE = 0.02
"""Distance below which a case is taken for the same tissue: a fiftieth of that between two patients of the cohort."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class CaseQuery:
    """What is asked for.

    Attributes
    ----------
    k : int
        Number of cases.
    space : str
        "tumor" or "tme" (or another branch of the model), or "both".
    same_site : bool
        Whether cases of the patient's site are allowed. A site is recognised from its slides, so that without exclusion
        neighbours are of the same hospital; a patient without known site excludes none.
    """

    k: int = 20
    space: str = BOTH
    same_site: bool = False


@dataclass(frozen=True, slots=True)
class SimilarCases:
    """The cases nearest to one patient.

    Attributes
    ----------
    patient_id : str
        The patient asked about.
    space : str
        Of the distance.
    neighbours : DataFrame
        patient_hash, cohort, site, distance (in `space`; 1 is the median distance of two patients), distance_<branch>
        of each, days, event, labels, values; nearest first.
    excluded : mapping
        Why cases were left out, to their number: "same patient", "near duplicate", "same site".
    """

    patient_id: str
    space: str
    neighbours: pd.DataFrame
    excluded: Mapping[str, int]


class CaseFinder:
    """Finds the cases of a model's bank that are nearest to a patient.

    Parameters
    ----------
    ensemble : Ensemble
        The fold models.
    banks : sequence of CaseBank
        One for each fold.
    """

    def __init__(self, ensemble: Ensemble, banks: Sequence[CaseBank]) -> None:
        self._ensemble, self._banks = ensemble, banks

    @classmethod
    def load(cls, folder: Path, ensemble: Ensemble | None = None) -> "CaseFinder":
        """Read the case banks beside the fold models of a folder.

        Raises
        ------
        InputError
            If a fold has none.
        """
        banks = [CaseBank.load(fold / FILE) for fold in fold_folders(folder)]
        return cls(ensemble or Ensemble.load(folder), banks)

    @classmethod
    def of_folder(cls, folder: Path, ensemble: Ensemble) -> "CaseFinder | None":
        """Read the case banks beside fold models; None for a model of a version that had none."""
        return cls.load(folder, ensemble) if all((fold / FILE).exists() for fold in fold_folders(folder)) else None

    @property
    def branches(self) -> tuple[str, ...]:
        """Spaces of single branches."""
        return tuple(self._banks[0].tokens)

    def find(self, patient: Cohort, query: CaseQuery) -> SimilarCases:
        """Return the nearest cases of one patient.

        Parameters
        ----------
        patient : Cohort
            Of one case, with its tokens, and expression where the model reads it.
        query : CaseQuery
            How many, and in which space.

        Raises
        ------
        InputError
            If the model has no such space.
        """
        spaces = (*self.branches, BOTH)
        if query.space not in spaces:
            raise InputError("case bank", f"no space {query.space!r}", f"There are: {', '.join(spaces)}")
        (case,) = patient.cases
        table = self._distances(patient)
        table["distance"] = table[f"distance_{query.space}"]
        is_same = table["patient_hash"] == digest(case.patient_id)
        is_duplicate = ~is_same & (table["distance_both"] < DUPLICATE)
        of_site = ~is_same & ~is_duplicate & (table["site"] == case.site) & bool(case.site) & (not query.same_site)
        excluded = {"same patient": is_same, "near duplicate": is_duplicate, "same site": of_site}
        left = table[~(is_same | is_duplicate | of_site) & table["distance"].notna()]
        nearest = left.sort_values(["distance", "patient_hash"], ignore_index=True).head(query.k)
        return SimilarCases(
            case.patient_id, query.space, nearest, {why: int(rows.sum()) for why, rows in excluded.items()}
        )

    def _distances(self, patient: Cohort) -> pd.DataFrame:
        """Return a row for each patient of the banks, with its mean distance in each space."""
        parts = []
        for fold, bank in zip(self._ensemble.folds, self._banks, strict=True):
            each = _fold_distances(fold, bank, patient)
            parts.append(bank.patients.drop(columns="member").assign(**{f"distance_{b}": d for b, d in each.items()}))
        rows = pd.concat(parts, ignore_index=True)
        names = [f"distance_{b}" for b in self.branches]
        rows["distance_both"] = np.sqrt(rows[names].pow(2).mean(axis=1, skipna=False))
        facts = [name for name in rows.columns if not str(name).startswith("distance_")]
        means = rows.groupby("patient_hash", sort=False)[[*names, "distance_both"]].mean()
        return rows.drop_duplicates("patient_hash")[facts].merge(means, left_on="patient_hash", right_index=True)


def _fold_distances(fold: FoldModel, bank: CaseBank, patient: Cohort) -> dict[str, Float[np.ndarray, "n"]]:
    """Return the distance of the patient to each row of one fold's bank, by branch."""
    read = [fold.reader(patient)(case) for case in patient.cases]
    members = bank.patients["member"].to_numpy(int)
    result = {branch: np.full(len(members), np.nan) for branch in bank.tokens}
    for member in np.unique(members):
        rows = members == member
        for branch, token in embed(fold, int(member), read).items():
            apart = np.linalg.norm(bank.tokens[branch][rows] - token, axis=1)
            result[branch][rows] = apart / bank.scales[branch][int(member)]
    return result


def summarise_outcomes(similar: SimilarCases, ensemble: Ensemble) -> dict[str, Any]:
    """Summarise what became of the nearest cases, for the model's task.

    Returns
    -------
    dict
        n, and by kind of task: survival_<days> with _low and _high (Kaplan-Meier, log-log interval) and events; shares
        of classes with Wilson intervals; or mean, low and high of the numbers. Only n where nothing is known.
    """
    task = ensemble.spec.preprocessor.task
    rows = similar.neighbours
    if task.kind == "survival":
        return _survival(rows[rows["days"].notna()], horizon_columns(ensemble.spec.years))
    if task.kind == "regression":
        numbers = np.array([v[task.name] for v in map(json.loads, rows["values"]) if task.name in v])
        if not len(numbers):
            return {"n": 0}
        low, high = np.quantile(numbers, [0.1, 0.9])
        return {"n": len(numbers), "mean": float(numbers.mean()), "low": float(low), "high": float(high)}
    labels = [v[task.name] for v in map(json.loads, rows["labels"]) if task.name in v]
    return {"n": len(labels), **{name: _share(labels, name) for name in task.classes if labels}}


def _share(labels: Sequence[str], name: str) -> dict[str, float]:
    counted = binomtest(labels.count(name), len(labels))
    ends = counted.proportion_ci(CONFIDENCE, method="wilson")
    return {"share": counted.statistic, "low": float(ends.low), "high": float(ends.high)}


def _survival(rows: pd.DataFrame, horizons: Mapping[str, int]) -> dict[str, Any]:
    from lifelines import KaplanMeierFitter

    if not len(rows):
        return {"n": 0}
    event = rows["event"].astype(bool)
    fitted = KaplanMeierFitter(alpha=1 - CONFIDENCE).fit(rows["days"].astype(float), event)
    curve, interval = fitted.survival_function_["KM_estimate"], fitted.confidence_interval_
    result: dict[str, Any] = {"n": len(rows), "events": int(event.sum())}
    last = float(rows["days"].max())
    for name, days in horizons.items():
        known = days <= last
        at = curve.index[curve.index <= days][-1]
        low, high = interval.loc[at].to_numpy(float)
        values = (float(curve.loc[at]), low, high) if known else (None, None, None)
        result |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    return result


def as_json(similar: SimilarCases, ensemble: Ensemble) -> str:
    """Return the cases and their summary as one JSON object."""
    rows = json.loads(similar.neighbours.to_json(orient="records", double_precision=6))
    for row in rows:
        row |= {name: json.loads(row[name]) for name in ("labels", "values")}
    outcomes = summarise_outcomes(similar, ensemble)
    return json.dumps({"space": similar.space, "excluded": similar.excluded, "outcomes": outcomes, "cases": rows})
