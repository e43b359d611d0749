"""Fit the gene programs that a student is taught: on the learning patients of a fold, weighted by what a slide tells.

Predictability is cross-fitted over the inner folds by a ridge regression of the programs on mean tokens, so that a
program which is only fitted has no weight.
"""

import logging
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from dml.core.types import SUBSPACES, Cohort
from dml.data.gene_programs import GenePrograms
from dml.data.linear_offset import has_values
from dml.data.patient_reader import PatientReader
from dml.data.preprocessing import Preprocessor, gene_index
from dml.linear_models.kernel_ridge import MIN_TRAINING_PATIENTS, KernelRidge

log = logging.getLogger(__name__)

MAX_COMPONENTS, PATIENTS_PER_COMPONENT = 8, 20
"""Principal components beside the mean of a group."""
MIN_PATIENTS = 30
"""Patients with slide and transcriptome below which nothing is taught."""


def fit_programs(
    learning: Cohort, preprocessor: Preprocessor, inner_fold_of: Mapping[str, int]
) -> dict[str, GenePrograms]:
    """Fit the programs of both subspaces; none where there are too few patients with slide and transcriptome.

    Parameters
    ----------
    learning : Cohort
        The fold's training patients.
    preprocessor : Preprocessor
        Fitted to them.
    inner_fold_of : mapping
        Inner fold of each patient.
    """
    cases = [case for case in learning.cases if case.has_expression and case.has_slide]
    if len(cases) < MIN_PATIENTS:
        log.info("no gene programs: %d patients have slide and transcriptome", len(cases))
        return {}
    rows = PatientReader(preprocessor, learning).source_rows(cases)["slide"]
    complete = has_values(rows) & np.isfinite(rows).all(1)
    inner = np.array([inner_fold_of[case.patient_id] for case in cases])

    def predict(scores: np.ndarray) -> np.ndarray:
        return predictability(rows[complete], scores[complete], inner[complete])

    programs: dict[str, GenePrograms] = {}
    for subspace in SUBSPACES:
        index = gene_index(learning.genes, getattr(preprocessor, f"{subspace}_genes"))
        if not len(index):
            continue
        raw = np.array([case.expression[index] for case in cases if case.expression is not None])
        genes = getattr(preprocessor, subspace)(raw).astype(float)
        count = min(MAX_COMPONENTS, max(len(cases) // PATIENTS_PER_COMPONENT, 1), genes.shape[1])
        fitted = GenePrograms.fit(genes, count, predict)
        shares = np.round(fitted.predictability, 2).tolist()
        log.info("gene programs of %s: the slide predicts %s of their variance", subspace, shares)
        programs[subspace] = fitted
    return programs


def predictability(
    slide: Float[np.ndarray, "n c"], scores: Float[np.ndarray, "n p"], inner_fold: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "p"]:
    """Return the out-of-fold R2 of each program, 0 where it is negative."""
    predicted = np.tile(scores.mean(0), (len(scores), 1))
    for fold in np.unique(inner_fold):
        test = inner_fold == fold
        if (~test).sum() >= MIN_TRAINING_PATIENTS:
            predicted[test] = KernelRidge.fit(slide[~test], scores[~test])(slide[test])
    residual, total = ((scores - predicted) ** 2).sum(0), ((scores - scores.mean(0)) ** 2).sum(0)
    return np.asarray(np.maximum(1 - residual / np.maximum(total, 1e-12), 0.0))
