"""Penalised multinomial logistic regression on a few columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dml.core.errors import InputError


@dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted model over all `classes` of a label; one absent from training gets probability 0."""

    fitted: Any
    classes: tuple[str, ...]
    penalty: float

    @classmethod
    def fit(
        cls, columns: Float[np.ndarray, "n k"], label: Int[np.ndarray, "n"], classes: Sequence[str], penalty: float
    ) -> "Logistic":
        """Fit with the same meaning of `penalty` as lifelines' Cox: mean log-likelihood minus ``penalty / 2 |w|^2``.

        Every class has the same total weight, as in the trained models; the weights come from the training patients.

        Raises
        ------
        InputError
            If the training patients are all of one class.
        """
        from sklearn.linear_model import LogisticRegression

        if len(np.unique(label)) < 2:
            problem = f"all its training patients are {classes[int(label[0])]}" if len(label) else "no training patient"
            raise InputError("logistic baseline", problem, "Check the labels or make fewer folds")
        strength = 1 / (len(label) * penalty)
        fitted = LogisticRegression(C=strength, class_weight="balanced", max_iter=10_000, tol=1e-8)
        return cls(fitted.fit(columns, label), tuple(classes), penalty)

    def probabilities(self, columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n c"]:
        """Probability of each class."""
        probabilities = np.zeros((len(columns), len(self.classes)))
        if len(columns):
            probabilities[:, self.fitted.classes_] = self.fitted.predict_proba(columns)
        return probabilities

    def describe(self) -> dict[str, Any]:
        """Coefficients and penalty for model.json."""
        return {
            "kind": "logistic",
            "classes": [self.classes[k] for k in self.fitted.classes_],
            "coefficients": self.fitted.coef_.tolist(),
            "intercept": self.fitted.intercept_.tolist(),
            "penalty": self.penalty,
        }
