"""What a model predicts: survival, the classes of a label, or a number. All that differs in tables is here.

Likelihoods of a task are in `dml.models.likelihoods`, its metrics in `dml.evaluation`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from dml.core.types import SURVIVAL, Case, Survival

DAYS_PER_YEAR = 365.25
TOLERANCE = 1e-3
"""How far probabilities may be from summing to one (float32 outputs)."""
Problem = tuple[np.ndarray, str]
"""Rows that are wrong (a mask), and what is wrong with them."""


def horizon_days(year: float) -> int:
    """Days after which survival is reported for a horizon in years: the number in the column's name."""
    return round(DAYS_PER_YEAR * year)


def survival_column(year: float) -> str:
    """Name of the column with the probability to be alive after some years: ``survival_365`` for one year."""
    return f"survival_{horizon_days(year)}"


def horizon_columns(years: Iterable[float]) -> dict[str, int]:
    """Return the survival columns of some horizons in years, each with its days."""
    return {survival_column(year): horizon_days(year) for year in years}


def class_column(name: str) -> str:
    """Name of the column with the probability of one class."""
    return f"p_{name}"


VALUE_COLUMNS = ("value", "value_lower", "value_upper")
"""Columns of a predicted number: the point, and the quantiles `INTERVAL_ENDS` around it."""
INTERVAL_ENDS = (0.1, 0.9)
"""Quantiles that bound the interval of a predicted number."""
COVERAGE = INTERVAL_ENDS[1] - INTERVAL_ENDS[0]
"""Share of patients that the interval should contain."""


@dataclass(frozen=True, slots=True)
class SurvivalTask:
    """Time to death, censored at the last follow-up."""

    name: Literal["survival"] = "survival"
    kind: Literal["survival"] = "survival"
    target_columns: ClassVar[tuple[str, ...]] = ("days", "event")
    chance: ClassVar[float] = 0.5
    """Concordance index of a model without information."""

    @property
    def classes(self) -> tuple[str, ...]:
        """No classes."""
        return ()

    def is_known(self, case: Case) -> bool:
        """Whether a patient's follow-up is known."""
        return case.survival is not None

    def target(self, case: Case) -> Survival | None:
        """Return a patient's follow-up."""
        return case.survival

    def target_values(self, case: Case) -> dict[str, Any]:
        """Return the target columns of one patient; empty if the follow-up is unknown."""
        return case.target_values(SURVIVAL)

    def take_target(self, case: Case, donor: Case) -> Case:
        """Return a patient with the follow-up of another."""
        return replace(case, survival=donor.survival)

    def target_features(self, case: Case) -> list[float]:
        """Return the outcome as numbers: log time, death, and their product; zeros if unknown."""
        if case.survival is None:
            return [0.0, 0.0, 0.0]
        log, died = float(np.log1p(case.survival.days)), float(case.survival.event)
        return [log, died, log * died]

    def output_columns(self, columns: Iterable[str]) -> list[str]:
        """Names of the columns that a model filled: risk, and survival at the horizons among `columns`."""
        return ["risk", *(column for column in columns if column.startswith("survival_"))]

    def problems(self, rows: pd.DataFrame) -> list[Problem]:
        """List what is wrong with outputs and targets of predictions."""
        survival = rows[self.output_columns(rows.columns)[1:]].to_numpy(float)
        days = rows["days"].to_numpy(float)
        return [
            (_outside(survival), "probabilities outside 0 to 1"),
            (~(np.isfinite(days) & (days >= 0)), "follow-up that is missing or negative"),
            (~rows["event"].isin([0, 1]).to_numpy(), "an event that is neither 0 nor 1"),
        ]


@dataclass(frozen=True, slots=True)
class ClassificationTask:
    """One label of a cohort, with its classes in order."""

    name: str
    classes: tuple[str, ...]
    kind: Literal["classification"] = "classification"
    target_columns: ClassVar[tuple[str, ...]] = ("label",)
    chance: ClassVar[float] = 0.5
    """Area under the ROC curve of a model without information."""

    def is_known(self, case: Case) -> bool:
        """Whether a patient's label is known."""
        return self.name in case.labels

    def target(self, case: Case) -> str | None:
        """Return a patient's class."""
        return case.labels.get(self.name)

    def target_values(self, case: Case) -> dict[str, Any]:
        """Return the target columns of one patient; empty if the label is unknown."""
        return case.target_values(self.name)

    def take_target(self, case: Case, donor: Case) -> Case:
        """Return a patient with the class of another."""
        return replace(case, labels={**case.labels, self.name: donor.labels[self.name]})

    def target_features(self, case: Case) -> list[float]:
        """Return the class as indicators; zeros if unknown."""
        return [float(case.labels.get(self.name) == name) for name in self.classes]

    def output_columns(self, columns: Iterable[str] = ()) -> list[str]:
        """Names of the columns that a model filled: one probability per class."""
        return [class_column(name) for name in self.classes]

    def problems(self, rows: pd.DataFrame) -> list[Problem]:
        """List what is wrong with outputs and targets of predictions."""
        values = rows[self.output_columns()].to_numpy(float)
        return [
            (_outside(values), "probabilities outside 0 to 1"),
            (np.abs(values.sum(axis=1) - 1) > TOLERANCE, "class probabilities that do not sum to one"),
            (~rows["label"].isin(list(self.classes)).to_numpy(), f"labels other than {', '.join(self.classes)}"),
        ]


@dataclass(frozen=True, slots=True)
class RegressionTask:
    """One numeric label of a cohort, in its own unit."""

    name: str
    kind: Literal["regression"] = "regression"
    target_columns: ClassVar[tuple[str, ...]] = ("target",)
    chance: ClassVar[float] = 0.0
    """Spearman correlation of a model without information."""

    @property
    def classes(self) -> tuple[str, ...]:
        """No classes."""
        return ()

    def is_known(self, case: Case) -> bool:
        """Whether a patient's number is known."""
        return self.name in case.values

    def target(self, case: Case) -> float | None:
        """Return a patient's number."""
        return case.values.get(self.name)

    def target_values(self, case: Case) -> dict[str, Any]:
        """Return the target column of one patient; empty if the number is unknown."""
        return case.target_values(self.name)

    def take_target(self, case: Case, donor: Case) -> Case:
        """Return a patient with the number of another."""
        return replace(case, values={**case.values, self.name: donor.values[self.name]})

    def target_features(self, case: Case) -> list[float]:
        """Return the number and whether it is known; zeros if not."""
        return [case.values.get(self.name, 0.0), float(self.name in case.values)]

    def output_columns(self, columns: Iterable[str] = ()) -> list[str]:
        """Names of the columns that a model filled: the number and the ends of its interval."""
        return list(VALUE_COLUMNS)

    def problems(self, rows: pd.DataFrame) -> list[Problem]:
        """List what is wrong with outputs and targets of predictions."""
        value, lower, upper = (rows[name].to_numpy(float) for name in VALUE_COLUMNS)
        slack = TOLERANCE * np.maximum(np.abs(upper - lower), np.abs(value) * TOLERANCE)
        return [
            ((value < lower - slack) | (value > upper + slack), "a value outside its interval"),
            (~np.isfinite(rows["target"].to_numpy(float)), "targets that are missing or infinite"),
        ]


Task = SurvivalTask | ClassificationTask | RegressionTask


def make_task(name: str, classes: Mapping[str, Iterable[str]]) -> Task:
    """Return a task by name: ``survival``, or a label of a cohort; a label without classes is a number.

    Examples
    --------
    >>> make_task("survival", {}).target_columns
    ('days', 'event')
    >>> make_task("grade", {"grade": ("G2", "G3")}).output_columns()
    ['p_G2', 'p_G3']
    >>> make_task("purity", {"purity": ()}).output_columns()
    ['value', 'value_lower', 'value_upper']
    """
    if name == SURVIVAL:
        return SurvivalTask()
    names = tuple(classes[name])
    return ClassificationTask(name, names) if names else RegressionTask(name)


def task_of(metadata: Mapping[str, Any]) -> Task:
    """Return the task that the metadata of predictions name (keys ``task``, ``kind``, ``classes``)."""
    if metadata["kind"] == "survival":
        return SurvivalTask()
    if metadata["kind"] == "regression":
        return RegressionTask(metadata.get("task", ""))
    return ClassificationTask(metadata.get("task", ""), tuple(metadata["classes"]))


def _outside(values: np.ndarray) -> np.ndarray:
    outside: np.ndarray = np.any((values < -TOLERANCE) | (values > 1 + TOLERANCE), axis=1)
    return outside
