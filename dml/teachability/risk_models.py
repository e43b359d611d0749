"""Scores of one training set: the slide's risk, the genes' risk, and the genes' risk predicted from the slide.

The first two are the linear baselines `linear_slide` and `linear_genes`: principal components and a penalised Cox or
logistic or ridge regression. A score is the log hazard ratio of survival, the log-odds of each class but the first, or
the predicted number.

Shape legend: n patients, k scores (1 of survival and numbers, classes - 1 of a label).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from dml.baselines.linear.regression import NumberRegression, Regression, SurvivalRegression
from dml.config import params as config
from dml.core.types import Case, Cohort
from dml.linear_models.design_matrix import DesignMatrix, Reduction, source_matrix
from dml.linear_models.kernel_ridge import KernelRidge
from dml.teachability.fold_patients import is_paired

COLUMNS = ("slide", "genes", "predicted", "residual")
"""Scores of a patient: of the slide, of the genes, the latter predicted from the slide, and what that leaves."""
ARMS: Mapping[str, tuple[str, ...]] = {
    "slide": ("slide",),
    "genes": ("genes",),
    "predicted": ("predicted",),
    "slide_predicted": ("slide", "predicted"),
    "slide_residual": ("slide", "residual"),
    "slide_genes": ("slide", "genes"),
}
"""Arms of the decomposition: the scores that each one's regression reads."""
STACKING_PENALTY = 0.01
"""Ridge penalty of the regression on scores: with so few columns it only keeps separable data finite."""

Scores = Mapping[str, Float[np.ndarray, "n k"]]


@dataclass(frozen=True, slots=True)
class RiskModels:
    """Models fitted on one set of training patients."""

    regression: Regression
    designs: Mapping[str, DesignMatrix]
    models: Mapping[str, Any]
    ridge: KernelRidge

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        cases: Sequence[Case],
        regression: Regression,
        baselines: config.Baselines,
        slide_components: int | None = None,
    ) -> "RiskModels":
        """Fit to training patients; each model to those who have its input and a known outcome.

        The regression of the genes' score on the slide needs no outcome: it is fitted to all paired patients.

        Raises
        ------
        InputError
            If nobody died, or one class only.
        """
        known = [case for case in cases if regression.task.is_known(case)]
        designs, models = {}, {}
        for source, usable in (
            ("slide", [case for case in known if case.has_slide]),
            ("genes", [case for case in known if case.has_expression]),
        ):
            design = DesignMatrix.fit(cohort, usable, ["slide" if source == "slide" else "genes"], baselines.components)
            designs[source] = design
            models[source] = regression.fit(design(cohort, usable), usable, baselines.penalty)
        paired = [case for case in cases if is_paired(case)]
        genes = score(regression, models["genes"], designs["genes"](cohort, paired))
        ridge = KernelRidge.fit(source_matrix(cohort, paired, "slide"), genes, slide_components)
        return cls(regression, designs, models, ridge)

    def __call__(self, cohort: Cohort, cases: Sequence[Case]) -> dict[str, np.ndarray]:
        """Return the scores of paired patients by column; outcomes are not read."""
        slide, genes = (
            score(self.regression, self.models[source], self.designs[source](cohort, cases))
            for source in ("slide", "genes")
        )
        predicted = self.ridge(source_matrix(cohort, cases, "slide"))
        return {"slide": slide, "genes": genes, "predicted": predicted, "residual": genes - predicted}


@dataclass(frozen=True, slots=True)
class Stack:
    """A penalised regression of the outcome on the scores of one arm, fitted on out-of-fold scores."""

    regression: Regression
    columns: tuple[str, ...]
    scaling: Reduction
    model: Any

    @classmethod
    def fit(cls, arm: str, scores: Scores, cases: Sequence[Case], regression: Regression) -> "Stack":
        """Fit one arm to patients of known outcome."""
        columns = ARMS[arm]
        matrix = np.concatenate([scores[name] for name in columns], axis=1)
        scaling = Reduction.fit(matrix, None)
        return cls(regression, columns, scaling, regression.fit(scaling(matrix), cases, STACKING_PENALTY))

    def design(self, scores: Scores) -> np.ndarray:
        """Return the scaled scores that the regression reads."""
        return self.scaling(np.concatenate([scores[name] for name in self.columns], axis=1))

    def predict(self, scores: Scores, cases: Sequence[Case]) -> pd.DataFrame:
        """Return outputs and targets of patients, as predictions have them."""
        return pd.DataFrame(self.regression.predict(self.model, self.design(scores), cases))

    def score(self, scores: Scores) -> Float[np.ndarray, "n k"]:
        """Return the arm's own score."""
        return score(self.regression, self.model, self.design(scores))


def score(regression: Regression, model: Any, columns: np.ndarray) -> Float[np.ndarray, "n k"]:
    """Return log hazard ratios [n 1], log-odds of each class against the first [n k-1], or predicted numbers [n 1]."""
    if isinstance(regression, SurvivalRegression):
        return np.asarray(model.risk(columns), float).reshape(-1, 1)
    if isinstance(regression, NumberRegression):
        return np.asarray(model.predict(columns)[:, :1], float)
    log_p = np.log(np.clip(model.probabilities(columns), 1e-6, 1.0))
    return np.asarray(log_p[:, 1:] - log_p[:, :1])


def out_of_fold(parts: Sequence[Scores]) -> dict[str, np.ndarray]:
    """Concatenate the scores of inner folds."""
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
