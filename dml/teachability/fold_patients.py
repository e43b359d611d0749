"""The patients of a fold by what they have: who is fitted to, who is predicted out of fold, who is tested."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from dml.core.errors import InputError
from dml.core.types import Case, Cohort


class TooFewPatients(InputError):
    """A cohort has no paired test patients, or too few of them or of their events."""


@dataclass(frozen=True, slots=True)
class FoldPatients:
    """One fold: learning patients with their inner folds, and test patients.

    Attributes
    ----------
    index : int
        Number of the fold.
    learning : tuple of Case
        Patients that are not tested.
    inner_fold : tuple of int
        Inner fold of each, -1 for patients who are never predicted out of fold.
    test : tuple of Case
        Test patients; nothing is fitted to them.
    """

    index: int
    learning: tuple[Case, ...]
    inner_fold: tuple[int, ...]
    test: tuple[Case, ...]

    @property
    def inner_folds(self) -> list[int]:
        """Inner folds that have patients."""
        return sorted({number for number in self.inner_fold if number >= 0})

    def inner(self, number: int) -> tuple[list[Case], list[Case]]:
        """Return the patients outside an inner fold and those inside."""
        each = list(zip(self.learning, self.inner_fold, strict=True))
        return [case for case, fold in each if fold != number], [case for case, fold in each if fold == number]


def divide(cohort: Cohort, splits: pd.DataFrame, is_known: Callable[[Case], bool]) -> list[FoldPatients]:
    """Return the folds of a cohort; test patients are those with slide, transcriptome and known outcome.

    Raises
    ------
    TooFewPatients
        If no fold tests such a patient.
    """
    by_id = {case.patient_id: case for case in sorted(cohort.cases, key=lambda case: case.patient_id)}
    folds = []
    for index, rows in splits[splits["patient_id"].isin(by_id.keys())].groupby("fold"):
        rows = rows.sort_values("patient_id")
        tested = rows["role"] == "test"
        learning = rows[~tested]
        cases = [by_id[patient] for patient in rows.loc[tested, "patient_id"]]
        folds.append(
            FoldPatients(
                int(str(index)),
                tuple(by_id[patient] for patient in learning["patient_id"]),
                tuple(int(number) for number in learning["inner_fold"]),
                tuple(case for case in cases if is_paired(case) and is_known(case)),
            )
        )
    if not any(fold.test for fold in folds):
        problem = "no test patient has a slide, a transcriptome and a known outcome"
        remedy = (
            "What a slide says of genes can be measured on paired patients only: add transcriptomes of these slides"
        )
        raise TooFewPatients(f"cohort {cohort.name}", problem, remedy)
    return folds


def is_paired(case: Case) -> bool:
    """Whether a patient has a slide and a transcriptome."""
    return case.has_slide and case.has_expression
