"""One fold from its learning patients to the scores and predicted genes of its test patients.

Three levels, and outcomes or genes of test patients are in none of them: models fitted on the learning patients less
one inner fold give that inner fold's scores; the regressions of the arms are fitted on these out-of-fold scores; models
fitted on all learning patients give the test patients' scores, on which the arms predict.

Shape legend: n test patients, t targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from dml.baselines.linear.regression import Regression
from dml.config import params as config
from dml.core.types import Case, Cohort
from dml.linear_models.design_matrix import source_matrix
from dml.linear_models.kernel_ridge import MIN_TRAINING_PATIENTS, KernelRidge
from dml.teachability.fold_patients import FoldPatients, is_paired
from dml.teachability.gene_targets import GeneTargets, name_targets
from dml.teachability.risk_models import ARMS, RiskModels, Stack, out_of_fold


@dataclass(frozen=True, slots=True)
class Predicted:
    """Targets of test patients beside their prediction from the slide and the mean among learning patients."""

    names: pd.DataFrame
    target: Float[np.ndarray, "n t"]
    prediction: Float[np.ndarray, "n t"]
    mean: Float[np.ndarray, "n t"]


@dataclass(frozen=True, slots=True)
class FoldResult:
    """Predictions of every arm for the test patients of a fold (long form), and what is predicted from the slide."""

    rows: pd.DataFrame
    genes: Predicted
    risks: Predicted


@dataclass(frozen=True, slots=True)
class CrossFit:
    """What is fitted in every fold, and how.

    Attributes
    ----------
    sets : mapping
        Gene sets of measured genes, whose means are targets.
    settings : config.Teachability
        Components of slide and genes.
    """

    cohort: Cohort
    regression: Regression
    baselines: config.Baselines
    settings: config.Teachability
    sets: Mapping[str, Sequence[str]]

    def run(self, fold: FoldPatients) -> FoldResult:
        """Fit on the learning patients of a fold and predict its test patients.

        Raises
        ------
        InputError
            If nothing can be fitted to the learning patients: nobody died, or one class only.
        """
        inner, cases = [], []
        for number in fold.inner_folds:
            outside, inside = fold.inner(number)
            usable = [case for case in inside if is_paired(case) and self.regression.task.is_known(case)]
            if usable:
                inner.append(self._fit(outside)(self.cohort, usable))
                cases += usable
        learning, models = out_of_fold(inner), self._fit(fold.learning)
        stacks = {arm: Stack.fit(arm, learning, cases, self.regression) for arm in ARMS}
        scores = models(self.cohort, fold.test)
        rows = [self._rows(arm, stack.predict(scores, fold.test), fold) for arm, stack in stacks.items()]
        risks = self._predict_risks(fold, models, stacks["slide_genes"], learning, cases)
        return FoldResult(pd.concat(rows, ignore_index=True), self._predict_genes(fold), risks)

    def _fit(self, cases: Sequence[Case]) -> RiskModels:
        return RiskModels.fit(self.cohort, cases, self.regression, self.baselines, self.settings.slide_components)

    def _rows(self, arm: str, predictions: pd.DataFrame, fold: FoldPatients) -> pd.DataFrame:
        keys: dict[str, Any] = {
            "patient_id": [case.patient_id for case in fold.test],
            "site": [case.site for case in fold.test],
            "fold": fold.index,
            "arm": arm,
        }
        return predictions.assign(**keys)

    def _predict_genes(self, fold: FoldPatients) -> Predicted:
        """Predict genes, gene sets and components: no outcome is read."""
        paired = [case for case in fold.learning if is_paired(case)]
        targets = GeneTargets.fit(self.cohort, paired, self.sets, self.settings.gene_components)
        names = name_targets(self.cohort, self.sets, self.settings.gene_components)
        learning, test = targets(self.cohort, paired), targets(self.cohort, fold.test)
        return self._predict(names, paired, learning, fold, test)

    def _predict_risks(
        self,
        fold: FoldPatients,
        models: RiskModels,
        joint: Stack,
        learning: Mapping[str, np.ndarray],
        cases: Sequence[Case],
    ) -> Predicted:
        """Predict the genes' score and that of slide and genes, the linear teacher, which contains the slide."""
        paired, scores = [case for case in fold.learning if is_paired(case)], models(self.cohort, fold.test)
        gene_risk = models(self.cohort, paired)["genes"]
        classes = self.regression.task.classes
        suffixes = [f": {name}" for name in classes[1:]] if len(classes) > 2 else [""]
        parts = []
        for name, target, of, test in (
            ("gene risk", gene_risk, paired, scores["genes"]),
            ("slide + genes risk", joint.score(learning), cases, joint.score(scores)),
        ):
            names = pd.DataFrame({"kind": "risk", "name": [f"{name}{suffix}" for suffix in suffixes]})
            parts.append(self._predict(names, of, target, fold, test))
        arrays = [np.concatenate([getattr(p, each) for p in parts], 1) for each in ("target", "prediction", "mean")]
        return Predicted(pd.concat([p.names for p in parts], ignore_index=True), *arrays)

    def _predict(
        self, names: pd.DataFrame, cases: Sequence[Case], learning: np.ndarray, fold: FoldPatients, test: np.ndarray
    ) -> Predicted:
        mean = np.tile(learning.mean(axis=0), (len(test), 1))
        if len(cases) < MIN_TRAINING_PATIENTS or not len(test):
            return Predicted(names, test, mean, mean)
        ridge = KernelRidge.fit(source_matrix(self.cohort, cases, "slide"), learning, self.settings.slide_components)
        return Predicted(names, test, ridge(source_matrix(self.cohort, fold.test, "slide")), mean)
