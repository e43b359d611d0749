"""The patients of one fold: who is learnt from, who selects a model, and nothing that fits can see who is tested."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from dml.core.errors import InputError
from dml.core.types import Cohort
from dml.training.checkpoint import FoldModel


@dataclass(frozen=True, slots=True)
class Fold:
    """The learning patients of one fold; the test patients are deliberately not here.

    Every model is selected on one inner part of them and trained on the others. Members of an ensemble take turns with
    the parts, so that together they learn from everybody and nobody is judged by a member that has seen him.

    Attributes
    ----------
    index : int
        Number of the fold.
    learning : Cohort
        All of them.
    parts : mapping
        Patient to inner part 0, 1, ...; who is not in it is learnt from and never validated on.
    """

    index: int
    learning: Cohort
    parts: Mapping[str, int]

    @property
    def turns(self) -> int:
        """Inner parts that there are to validate on."""
        return max(self.parts.values(), default=-1) + 1

    def training(self, member: int = 0) -> Cohort:
        """Whom a member learns from."""
        return self.learning.subset({c.patient_id for c in self.learning.cases} - self._turn(member))

    def validation(self, member: int = 0) -> Cohort:
        """Whom a member is selected on."""
        return self.learning.subset(self._turn(member))

    def _turn(self, member: int) -> set[str]:
        return {patient for patient, part in self.parts.items() if part == member % max(self.turns, 1)}


def fold_of(cohort: Cohort, splits: pd.DataFrame, index: int) -> Fold:
    """Cut the learning parts of a fold out of a cohort.

    Raises
    ------
    InputError
        If the splits do not have this fold.
    """
    rows = splits[splits["fold"] == index]
    if rows.empty:
        raise InputError("splits.parquet", f"no fold {index}", "Set folds in params.yaml and run dvc repro split")
    learning = rows[rows["role"] != "test"]
    turn_takers = learning[learning["part"] >= 0]
    parts = dict(zip(turn_takers["patient_id"], turn_takers["part"].astype(int), strict=True))
    return Fold(index, cohort.subset(set(learning["patient_id"])), parts)


def held_out(cohort: Cohort, splits: pd.DataFrame, index: int) -> Cohort:
    """Cut the test patients of a fold out of a cohort: for prediction only."""
    return cohort.subset(_ids(splits[splits["fold"] == index], "test"))


def unseen(model: FoldModel, fold: Fold) -> pd.DataFrame:
    """Predict the learning patients of a fold by the members that were selected on them and have not learnt from them.

    With as many members as inner parts that is everybody with a part; with one member, the first part.
    """
    turns = model.turns(fold.turns).items()
    said = [model.predict(fold.validation(turn), members=members, parts=fold.parts) for turn, members in turns]
    return pd.concat(said)


def _ids(rows: pd.DataFrame, role: str) -> set[str]:
    return set(rows.loc[rows["role"] == role, "patient_id"])
