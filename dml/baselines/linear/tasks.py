"""What differs between survival and a label: the truth of a patient, the model to fit, the columns to report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dml.baselines.linear.null import ClassShares, KaplanMeierNull
from dml.core.types import SURVIVAL, Case
from dml.models.linear.cox import Cox
from dml.models.linear.logistic import Logistic


@dataclass(frozen=True, slots=True)
class SurvivalLearner:
    """`horizons` maps the name of a survival column to its days."""

    horizons: Mapping[str, int]

    def knows(self, case: Case) -> bool:
        """Whether the follow-up is known."""
        return case.survival is not None

    def fit(self, columns: np.ndarray, cases: Sequence[Case], penalty: float) -> Cox | KaplanMeierNull:
        """Fit Cox, or Kaplan-Meier without columns."""
        days, event = _follow_up(cases)
        return Cox.fit(columns, days, event, penalty) if columns.shape[1] else KaplanMeierNull.fit(days, event)

    def outputs(self, model: Any, columns: np.ndarray, cases: Sequence[Case]) -> dict[str, Any]:
        """Return risk, survival at each horizon, days and event."""
        curves = model.survival(columns, list(self.horizons.values()))
        named = {name: curves[:, i] for i, name in enumerate(self.horizons)}
        days, event = _follow_up(cases)
        return {"risk": model.risk(columns), **named, "days": days, "event": event}

    def metadata(self, model: Any, columns: np.ndarray, cases: Sequence[Case]) -> dict[str, Any]:
        """Return median training risk and training follow-up."""
        days, event = _follow_up(cases)
        follow_up = {"train_days": days.tolist(), "train_event": event.tolist()}
        cutoff = float(np.median(model.risk(columns)))
        return {"task": SURVIVAL, "kind": "survival", "classes": [], "train_cutoff": cutoff, **follow_up}


@dataclass(frozen=True, slots=True)
class ClassLearner:
    """A label and its classes in order."""

    task: str
    classes: tuple[str, ...]

    def knows(self, case: Case) -> bool:
        """Whether the label is known."""
        return self.task in case.labels

    def fit(self, columns: np.ndarray, cases: Sequence[Case], penalty: float) -> Logistic | ClassShares:
        """Fit logistic regression, or class shares without columns."""
        label = np.array([self.classes.index(case.labels[self.task]) for case in cases], int)
        informed = columns.shape[1] > 0
        return Logistic.fit(columns, label, self.classes, penalty) if informed else ClassShares.fit(label, self.classes)

    def outputs(self, model: Any, columns: np.ndarray, cases: Sequence[Case]) -> dict[str, Any]:
        """Return the probability of each class, and the label."""
        probabilities = model.probabilities(columns)
        named = {f"p_{name}": probabilities[:, k] for k, name in enumerate(self.classes)}
        return {**named, "label": [case.labels[self.task] for case in cases]}

    def metadata(self, model: Any, columns: np.ndarray, cases: Sequence[Case]) -> dict[str, Any]:
        """Classes; a cut-off and follow-up do not apply."""
        unused: dict[str, Any] = {"train_cutoff": None, "train_days": [], "train_event": []}
        return {"task": self.task, "kind": "classification", "classes": list(self.classes), **unused}


Learner = SurvivalLearner | ClassLearner


def _follow_up(cases: Sequence[Case]) -> tuple[np.ndarray, np.ndarray]:
    known = [case.survival for case in cases if case.survival is not None]
    return np.array([s.days for s in known], float), np.array([s.event for s in known], bool)
