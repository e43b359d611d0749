"""Weights of patients in distillation: those whose genes the slide predicts count more.

    w_i = (1/2 + s_i) / mean(1/2 + s)
    s_i = max(0, 1 - |z_i - f(x_i)|^2 / |z_i|^2)       z: leading gene components, x: slide, f: ridge regression

Components, their scale and f are fitted to the other inner folds: no patient is in the fit of its own share, and no
outcome is read. A patient whom f places on the wrong side of the mean has share 0. Weights are between 1/3 and 3, of
mean 1 over the fold's learning patients with slide and transcriptome, and all 1 where the slide predicts nothing.

Shape legend: n patients, c columns of the slide, g genes.
"""

import logging
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from dml.core.types import Cohort
from dml.data.patient_reader import PatientReader
from dml.data.preprocessing import WINSOR_QUANTILE, Preprocessor
from dml.linear_models.design_matrix import Reduction
from dml.linear_models.kernel_ridge import KernelRidge

log = logging.getLogger(__name__)

LEAST = 0.5
"""Added to the share of each patient, so that none has no weight."""
MIN_TRAINING_PATIENTS = 30
"""Patients of the other inner folds below which nothing is predicted."""
MAX_COMPONENTS, PATIENTS_PER_COMPONENT = 10, 20
"""Gene components."""


def fit_patient_weights(
    learning: Cohort, preprocessor: Preprocessor, inner_fold_of: Mapping[str, int]
) -> dict[str, float]:
    """Return the weight of each learning patient with slide and transcriptome.

    Parameters
    ----------
    learning : Cohort
        The fold's learning patients.
    preprocessor : Preprocessor
        Fitted to them.
    inner_fold_of : mapping
        Inner fold of each patient.
    """
    cases = [case for case in learning.cases if case.has_expression and case.has_slide]
    if not cases:
        return {}
    rows = PatientReader(preprocessor, learning).source_rows(cases)
    inner_fold = np.array([inner_fold_of[case.patient_id] for case in cases])
    shares = predicted_shares(rows["slide"], rows["genes"], inner_fold)
    weights = (LEAST + shares) / (LEAST + shares).mean()
    log.info("weights of patients: %.2f to %.2f, the slide predicts %.2f", weights.min(), weights.max(), shares.mean())
    return {case.patient_id: float(weight) for case, weight in zip(cases, weights, strict=True)}


def predicted_shares(
    slide: Float[np.ndarray, "n c"], genes: Float[np.ndarray, "n g"], inner_fold: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Return the share of each patient, 0 to 1.

    Parameters
    ----------
    slide, genes : array, n c and n g
        Raw values; a missing one is NaN and counts as the mean.
    inner_fold : array, n
        Inner fold of each patient.
    """
    shares = np.zeros(len(slide))
    for fold in np.unique(inner_fold):
        test = inner_fold == fold
        if (~test).sum() < MIN_TRAINING_PATIENTS:
            continue
        count = min(MAX_COMPONENTS, max(int((~test).sum()) // PATIENTS_PER_COMPONENT, 1))
        reduction = Reduction.fit(genes[~test], count, WINSOR_QUANTILE)
        deviation = 1 / np.linalg.norm(reduction.rotation, axis=0)  # of each component; the reduction divides by it
        scores = reduction(genes) * deviation
        error = scores[test] - KernelRidge.fit(slide[~test], scores[~test])(slide[test])
        size = np.square(scores[test]).sum(1)
        shares[test] = 1 - np.square(error).sum(1) / np.maximum(size, np.finfo(float).tiny)
    return np.asarray(np.clip(shares, 0.0, 1.0))
