"""Logistic recalibration of class probabilities by intercepts and one slope; the slope alone is a calibration metric.

Logits of the recalibrated probabilities are ``a_k + b log p_k`` with ``a_0 = 0``: for two classes the logistic
recalibration of Cox (Biometrika 1958), for more van Hoorde et al. (Journal of Biomedical Informatics 2015) with one
slope. Maximum likelihood by Newton's method, all weightings in step.
Shape legend: r weightings, n patients, k classes, p = k parameters: the slope, then the intercepts of classes 1, 2, ...
"""

import numpy as np
from jaxtyping import Float

from dml.evaluation.metrics import Index, Probabilities, Values, Weights
from dml.evaluation.metrics.registry import metric

MIN_PROBABILITY = 1e-6
"""Probabilities are clipped this far from 0 before logarithms."""
N_NEWTON_STEPS, N_HALVINGS, MAX_PARAMETER = 50, 10, 30.0
"""Newton steps, halvings of each, and the parameter beyond which there is no maximum."""


@metric("calibration_slope", kind="classification", label="Calibration slope", order=60, higher_is_better=None,
        main=True, calibration=True, overall_only=True)  # fmt: skip
def calibration_slope(weights: Weights, *, label: Index, probabilities: Probabilities) -> Values:
    """Slope of the recalibration: below 1 the probabilities are too extreme, above 1 too timid.

    NaN where a class has no patient, the probabilities do not vary, or the likelihood has no maximum.
    """
    return fit_recalibration(weights, label=label, probabilities=probabilities)[:, 0]


def fit_recalibration(weights: Weights, *, label: Index, probabilities: Probabilities) -> Float[np.ndarray, "r p"]:
    """Fit slope and intercepts; rows of NaN where they are not defined."""
    weights = np.asarray(weights, float)
    design, truth = _design(probabilities), np.eye(probabilities.shape[1])[label]
    parameters = np.zeros((len(weights), design.shape[2]))
    best = _likelihood(weights, parameters, design, truth)
    for _ in range(N_NEWTON_STEPS):
        step = _newton_step(*_derivatives(weights, parameters, design, truth))
        for _ in range(N_HALVINGS):  # a full Newton step may overshoot
            likelihood = _likelihood(weights, parameters + step, design, truth)
            worse = likelihood < best - 1e-9 * np.abs(best)
            if not worse.any():
                break
            step[worse] /= 2
        parameters = np.clip(parameters + step, -MAX_PARAMETER, MAX_PARAMETER)
        best = np.maximum(likelihood, best)
        if np.nanmax(np.abs(step), initial=0) < 1e-10:
            break
    absent = (weights @ truth == 0).any(axis=1)
    no_maximum = (np.abs(parameters) >= MAX_PARAMETER).any(axis=1) | ~np.isfinite(parameters).all(axis=1)
    parameters[no_maximum | absent] = np.nan
    return parameters


def apply_recalibration(parameters: Float[np.ndarray, "p"], probabilities: Probabilities) -> Probabilities:
    """Apply slope and intercepts."""
    return _softmax(_design(probabilities) @ parameters)


def _design(probabilities: np.ndarray) -> np.ndarray:
    """``[n k p]``: the log probability, then indicators of class 1, 2, ..."""
    n, k = probabilities.shape
    logs = np.log(np.clip(probabilities, MIN_PROBABILITY, 1))[:, :, None]
    return np.concatenate([logs, np.broadcast_to(np.eye(k)[:, 1:], (n, k, k - 1))], axis=2)


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _likelihood(weights: np.ndarray, parameters: np.ndarray, design: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Log likelihood ``[r]``; NaN where a parameter is."""
    logits = np.einsum("nkp,rp->rnk", design, parameters)
    top = logits.max(axis=2, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=2)) + top[:, :, 0]
    return np.asarray(np.einsum("rn,rn->r", weights, (logits * truth).sum(axis=2) - total))


def _derivatives(
    weights: np.ndarray, parameters: np.ndarray, design: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient ``[r p]`` and information ``[r p p]`` of the log likelihood."""
    shares = _softmax(np.einsum("nkp,rp->rnk", design, parameters))
    gradient = np.einsum("rn,rnk,nkp->rp", weights, truth - shares, design, optimize=True)
    mean = np.einsum("rnk,nkp->rnp", shares, design, optimize=True)
    weighted = weights[:, :, None] * shares
    square = np.einsum("rnk,nkp,nkq->rpq", weighted, design, design, optimize=True)
    return gradient, square - np.einsum("rn,rnp,rnq->rpq", weights, mean, mean, optimize=True)


def _newton_step(gradient: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Newton steps; NaN where the information is singular."""
    scale = np.trace(information, axis1=1, axis2=2)
    singular = np.linalg.det(information / np.maximum(scale, 1e-300)[:, None, None]) < 1e-14
    safe = np.where(singular[:, None, None], np.eye(information.shape[1]), information)
    step = np.linalg.solve(safe, gradient[:, :, None])[:, :, 0]
    step[singular] = np.nan
    return step
