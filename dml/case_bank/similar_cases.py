"""The learning patients most like a new one: alike in the tumor, in its microenvironment, and in both.

Left out are the patient, near duplicates, and (by default) patients of the same hospital: slides show where they were
made, so that without this rule the nearest are those who were treated, stained and scanned at the same place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from dml.case_bank.bank import DAYS, EVENT, HELD_OUT, PATIENT, SITE, THUMBNAIL, CaseBank
from dml.case_bank.outcomes import describe_outcomes
from dml.core.files import digest
from dml.core.tasks import Task
from dml.evaluation.intervals import rounded

DEFAULT_NEIGHBOURS = 20
BOTH = "both"
"""Neighbours in both subspaces: by the root mean square of the two distances."""
TWIN_DISTANCE = 0.1
"""A case is a near duplicate within this share of the median distance, in every subspace; as in the data checks."""
UNKNOWN_SITES = ("", "unknown")


@dataclass(frozen=True, slots=True)
class Excluded:
    """Which cases of a bank are no neighbours of a patient, as masks."""

    patient: Bool[np.ndarray, "n"]
    near_duplicate: Bool[np.ndarray, "n"]
    same_site: Bool[np.ndarray, "n"]

    @property
    def any(self) -> Bool[np.ndarray, "n"]:
        """All of them."""
        return np.asarray(self.patient | self.near_duplicate | self.same_site)

    def counts(self) -> dict[str, int]:
        """How many are left out for each reason; the first counts."""
        twin = self.near_duplicate & ~self.patient
        site = self.same_site & ~self.patient & ~twin
        return {"patient": int(self.patient.sum()), "near_duplicates": int(twin.sum()), "same_site": int(site.sum())}


@dataclass(frozen=True, slots=True)
class SimilarCases:
    """Distances of one patient to all cases, per space, and which of them are left out."""

    bank: CaseBank
    distances: Mapping[str, Float[np.ndarray, "n"]]
    excluded: Excluded

    def nearest(self, space: str, k: int) -> pd.DataFrame:
        """Return the k nearest cases with their distance, nearest first."""
        allowed = np.flatnonzero(~self.excluded.any & np.isfinite(self.distances[space]))
        distance = self.distances[space][allowed]
        order = np.argsort(distance, kind="stable")[:k]
        return self.bank.cases.iloc[allowed[order]].assign(distance=distance[order]).reset_index(drop=True)

    def describe(self, task: Task, years: Sequence[float], k: int) -> dict[str, Any]:
        """Return neighbours and their outcomes in every space, as JSON-able content.

        ``cases`` (in the bank), ``excluded`` (counts), ``distance`` (median to all cases), ``spaces``: per space
        ``neighbours`` (distance, patient (digest), cohort, site, held_out, days, event, labels) and ``outcomes``.
        """
        spaces = {}
        for space in self.distances:
            rows = self.nearest(space, k)
            records = [_record(row) for row in rows.drop(columns=THUMBNAIL).to_dict("records")]
            spaces[space] = {"neighbours": records, "outcomes": describe_outcomes(rows, task, years)}
        typical = {
            space: rounded(float(np.median(values[np.isfinite(values)]))) for space, values in self.distances.items()
        }
        counts = self.excluded.counts()
        return {"cases": len(self.bank.cases), "excluded": counts, "median_distance": typical, "spaces": spaces}


def find_similar(
    bank: CaseBank, tokens: Mapping[str, np.ndarray], patient_id: str, site: str | None, allow_same_site: bool = False
) -> SimilarCases:
    """Compare a patient with all cases of a bank.

    Parameters
    ----------
    tokens : mapping
        Branch to the patient's tokens (m d) from every member (`dml.case_bank.build_bank.embed_all`).
    patient_id, site : str
        Who is left out; without a site nobody is for it.
    allow_same_site : bool
        Whether patients of the same hospital may be neighbours.
    """
    distances = bank.distances(tokens)
    both = np.sqrt(np.mean([np.square(values) for values in distances.values()], axis=0))
    typical = {branch: float(np.median(values[np.isfinite(values)])) for branch, values in distances.items()}
    twins = [values <= TWIN_DISTANCE * typical[branch] for branch, values in distances.items()]
    sites = bank.cases[SITE].to_numpy(str)
    ignored = allow_same_site or site is None or site in UNKNOWN_SITES
    same = np.zeros(len(sites), bool) if ignored else sites == site
    himself = bank.cases[PATIENT].to_numpy(str) == digest(patient_id)
    excluded = Excluded(himself, np.all(twins, axis=0), same)
    return SimilarCases(bank, {**({BOTH: both} if len(distances) > 1 else {}), **distances}, excluded)


def _record(row: Mapping[Any, Any]) -> dict[str, Any]:
    """One neighbour with plain values; what is unknown is None."""
    plain: dict[str, Any] = {"distance": rounded(float(row["distance"]))}
    for name, value in row.items():
        if name in ("distance", THUMBNAIL):
            continue
        if value is None or (isinstance(value, float) and np.isnan(value)):
            plain[str(name)] = None
        elif name in (EVENT, HELD_OUT):
            plain[str(name)] = bool(value)
        else:
            plain[str(name)] = float(value) if name == DAYS or isinstance(value, float) else str(value)
    return plain
