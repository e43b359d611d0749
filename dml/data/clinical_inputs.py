"""Optional clinical inputs of the student: numbers and labels, each of which may be unknown.

    number   [(x - m) / s, 0], unknown: [0, 1]         m, s: of the training patients
    label    one of its classes, or unknown: one-hot

In training each input is hidden with the probability `dropout`, and with the same probability all of a patient, so that
one model answers with any part of them. A label that decides the task or is decided by it is refused: it would be the
answer. Decided means that Goodman and Kruskal's lambda is at least 0.98 in either direction.

Shape legend: b patients, i inputs, c columns.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from dml.core.errors import InputError
from dml.core.types import CLINICAL, Case, Cohort

OTHER_TASKS = "Train this task with others: set tasks and inputs.clinical together"
DECIDED = 0.98
"""Lambda from which a label decides another."""
PARAMETER = "inputs.clinical"


class ClinicalInput(BaseModel):
    """One input: a label with classes, or a number with mean and deviation of the training patients."""

    model_config = ConfigDict(frozen=True)

    name: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def width(self) -> int:
        """Columns, the last of which says that it is unknown."""
        return max(len(self.classes), 1) + 1

    def encode(self, value: str | float | None) -> list[float]:
        """Return the columns of a value."""
        if value is None or (self.classes and value not in self.classes):
            return [0.0] * (self.width - 1) + [1.0]
        if self.classes:
            return [float(value == name) for name in self.classes] + [0.0]
        return [(float(value) - self.mean) / self.deviation, 0.0]

    def encode_known(self, value: str | float | None) -> list[float]:
        """Return the columns but the last, NaN where the value is unknown: for a linear model, which fills in means."""
        *columns, is_unknown = self.encode(value)
        return [float("nan")] * len(columns) if is_unknown else columns

    def parse(self, value: object) -> str | float | None:
        """Read a value from a table of a user; None if it is empty.

        Raises
        ------
        InputError
            If it is no number, or none of the classes.
        """
        text = "" if value is None else str(value).strip()
        if text.lower() in ("", "nan", "none", "<na>"):
            return None
        if self.classes:
            if text not in self.classes:
                raise InputError(f"column {self.name}", f"unknown value {text!r}", f"Use {', '.join(self.classes)}")
            return text
        try:
            number = float(text)
        except ValueError:
            raise InputError(f"column {self.name}", f"{text!r} is no number", "Leave it empty where unknown") from None
        return number if np.isfinite(number) else None


class ClinicalInputs(BaseModel):
    """All clinical inputs of a model, in order."""

    model_config = ConfigDict(frozen=True)

    inputs: tuple[ClinicalInput, ...]
    dropout: float = 0.0

    @classmethod
    def fit(cls, training: Cohort, names: Sequence[str], task: str, dropout: float) -> "ClinicalInputs":
        """Fit to the training patients of a fold.

        Raises
        ------
        InputError
            If there is no such column, no training patient has it, or it is the task or decides it.
        """
        return cls(inputs=tuple(_fit_input(training, name, task) for name in names), dropout=dropout)

    def __call__(self, case: Case) -> Float[np.ndarray, "c"]:
        """Return the columns of a patient."""
        return np.array([x for each in self.inputs for x in each.encode(value_of(case, each.name))], np.float32)

    def linear_row(self, case: Case) -> Float[np.ndarray, "_"]:
        """Return the columns for a linear model, NaN where an input is unknown."""
        return np.array([x for each in self.inputs for x in each.encode_known(value_of(case, each.name))])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that are read."""
        return tuple(each.name for each in self.inputs)

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(each.width for each in self.inputs)

    def parse(self, values: Mapping[str, object]) -> dict[str, str | float]:
        """Return the known inputs of one row of a table; see `ClinicalInput.parse`."""
        parsed = {each.name: each.parse(values.get(each.name)) for each in self.inputs}
        return {name: value for name, value in parsed.items() if value is not None}

    def hide(self, columns: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        """Hide inputs of a batch at random, for training."""
        if not self.dropout:
            return columns
        draws = torch.rand(len(columns), len(self.inputs) + 1, device=columns.device) < self.dropout
        hidden = draws[:, 1:] | draws[:, :1]
        of_column = torch.tensor([i for i, each in enumerate(self.inputs) for _ in range(each.width)])
        unknown = torch.tensor([x for each in self.inputs for x in each.encode(None)], device=columns.device)
        return torch.where(hidden[:, of_column.to(columns.device)], unknown, columns)


def value_of(case: Case, name: str) -> str | float | None:
    """Return a patient's age, sex, label or number; None if unknown."""
    known: dict[str, str | float] = {**case.values, **case.labels, **case.covariates}
    return known.get(name)


def without_inputs(case: Case, names: set[str]) -> Case:
    """Return a patient of whom some clinical inputs are unknown."""
    return replace(
        case,
        covariates={name: value for name, value in case.covariates.items() if name not in names},
        labels={name: value for name, value in case.labels.items() if name not in names},
        values={name: value for name, value in case.values.items() if name not in names},
    )


def _fit_input(training: Cohort, name: str, task: str) -> ClinicalInput:
    if name not in (*CLINICAL, *training.classes):
        columns = ", ".join((*CLINICAL, *training.classes))
        raise InputError("params.yaml", f"{PARAMETER}: unknown column {name!r}", f"The cohort has: {columns}")
    if name == task:
        raise InputError("params.yaml", f"{PARAMETER}: {name} is the task itself", OTHER_TASKS)
    values = [value for case in training.cases if (value := value_of(case, name)) is not None]
    if not values:
        raise InputError("params.yaml", f"{PARAMETER}: no training patient has a {name}", "Leave it out")
    if classes := training.classes.get(name, ()):
        pairs = [(c.labels[name], c.labels[task]) for c in training.cases if name in c.labels and task in c.labels]
        if max(_lambda(pairs), _lambda([(b, a) for a, b in pairs])) >= DECIDED:
            raise InputError("params.yaml", f"{PARAMETER}: {name} decides {task}, or {task} it", OTHER_TASKS)
        return ClinicalInput(name=name, classes=classes)
    numbers = np.array(values, float)
    deviation = float(numbers.std())
    return ClinicalInput(name=name, mean=float(numbers.mean()), deviation=deviation if deviation > 1e-6 else 1.0)


def _lambda(pairs: Sequence[tuple[str, str]]) -> float:
    """Return how much less often the second label is missed if the first is known (Goodman and Kruskal 1954)."""
    counts = Counter(pairs)
    most = Counter(second for _, second in pairs).most_common(1)
    missed = len(pairs) - (most[0][1] if most else 0)
    firsts = {first for first, _ in pairs}
    right = sum(max(count for (a, _), count in counts.items() if a == first) for first in firsts)
    return 1 - (len(pairs) - right) / missed if missed else 0.0
