"""How far a patient is from the learning patients: the distance to the fifth nearest, among those of the cases."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dml.case_bank.bank import SITE, CaseBank
from dml.case_bank.similar_cases import BOTH, SimilarCases

RANK = 5
"""Neighbour whose distance counts: one near case may be chance."""
SAMPLE = 150
"""Cases whose distances are computed for comparison."""
FAR = 0.99
"""Share of the cases that are nearer to others than the patient, from which the patient is far outside."""
MIN_CASES = 20


@dataclass(frozen=True, slots=True)
class Novelty:
    """Distance to the fifth nearest case, and the share of cases whose distance to their fifth nearest is smaller.

    `percentile` is NaN where the bank is too small to tell.
    """

    distance: float
    percentile: float

    @property
    def is_far(self) -> bool:
        """Whether the patient is far outside of the learning patients."""
        return self.percentile >= FAR


def measure_novelty(similar: SimilarCases) -> Novelty:
    """Compare a patient's distance to the cases with the distances between cases of different hospitals."""
    distance = _ranked(similar.distances[_space(similar)][~similar.excluded.any])
    reference = case_distances(similar.bank)
    known = reference[np.isfinite(reference)]
    percentile = float((known < distance).mean()) if len(known) >= MIN_CASES else float("nan")
    return Novelty(distance, percentile)


def case_distances(bank: CaseBank) -> np.ndarray:
    """Distance of evenly spaced cases to their fifth nearest case of another hospital, where there is any."""
    chosen = np.unique(np.linspace(0, len(bank.cases) - 1, min(SAMPLE, len(bank.cases))).astype(int))
    sites = bank.cases[SITE].to_numpy(str)
    several = pd.unique(sites).size > 1
    rows = []
    for i in chosen:
        parts = [np.square(values) for values in bank.distances_of_case(int(i)).values()]
        distance = np.sqrt(np.mean(parts, axis=0))
        others = (sites != sites[i]) if several else (np.arange(len(sites)) != i)
        rows.append(_ranked(distance[others]))
    return np.array(rows)


def _ranked(distance: np.ndarray) -> float:
    finite = np.sort(distance[np.isfinite(distance)])
    return float(finite[min(RANK, len(finite)) - 1]) if len(finite) else float("inf")


def _space(similar: SimilarCases) -> str:
    return BOTH if BOTH in similar.distances else next(iter(similar.distances))
