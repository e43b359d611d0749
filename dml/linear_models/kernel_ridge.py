"""Ridge regression of many targets on one design matrix, in its n x n kernel form, with a penalty for each target.

    f(x) = mean(y) + k(x)' (K + a I)^-1 (y - mean(y)),      K = X X' of the centred columns

One eigendecomposition of K serves all targets and penalties, so 1,544 genes of 400 patients take a fraction of a
second. Each target has the penalty of least leave-one-out error on the training patients, which is exact without
refitting: residual / (1 - leverage). Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning,
2009, sections 5.8.1 and 7.10.

Shape legend: n training patients, m others, c columns, t targets, a penalties.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dml.linear_models.design_matrix import Reduction

PENALTIES = np.logspace(-3, 4, 15)
"""Grid of penalties, in units of the mean eigenvalue of the kernel."""
MIN_TRAINING_PATIENTS = 3


@dataclass(frozen=True, slots=True)
class KernelRidge:
    """A fitted regression of all targets.

    Attributes
    ----------
    reduction : Reduction
        Standardisation of the columns, optionally to principal components.
    centre : [k]
        Means of the reduced columns of the training patients.
    weights : [k t]
        Coefficient of each reduced column.
    intercept : [t]
        Mean of each target.
    penalty : [t]
        Chosen penalty of each target, in units of the mean eigenvalue.
    """

    reduction: Reduction
    centre: Float[np.ndarray, "k"]
    weights: Float[np.ndarray, "k t"]
    intercept: Float[np.ndarray, "t"]
    penalty: Float[np.ndarray, "t"]

    @classmethod
    def fit(
        cls, columns: Float[np.ndarray, "n c"], targets: Float[np.ndarray, "n t"], components: int | None = None
    ) -> "KernelRidge":
        """Fit to the training patients; with `components`, on that many principal components of the columns.

        Raises
        ------
        ValueError
            If there are fewer than three patients or a target is not finite.

        Examples
        --------
        >>> x = np.random.default_rng(0).normal(size=(60, 4))
        >>> model = KernelRidge.fit(x, x @ np.array([[1.0], [2.0], [0.0], [0.0]]))
        >>> bool(np.corrcoef(model(x)[:, 0], x[:, 0] + 2 * x[:, 1])[0, 1] > 0.999)
        True
        """
        if len(columns) < MIN_TRAINING_PATIENTS or not np.isfinite(targets).all():
            raise ValueError(f"{len(columns)} training patients, targets finite: {np.isfinite(targets).all()}")
        reduction = Reduction.fit(columns, components)
        reduced = reduction(columns)
        centre, intercept = reduced.mean(axis=0), targets.mean(axis=0)
        centred = reduced - centre
        values, vectors = np.linalg.eigh(centred @ centred.T)
        values = np.maximum(values, 0.0)
        scale = max(float(values.mean()), np.finfo(float).tiny)
        rotated = vectors.T @ (targets - intercept)
        penalty = _select_penalty(values / scale, vectors, rotated, targets - intercept)
        dual = vectors @ (rotated / (values[:, None] + scale * penalty))
        return cls(reduction, centre, centred.T @ dual, intercept, penalty)

    def __call__(self, columns: Float[np.ndarray, "m c"]) -> Float[np.ndarray, "m t"]:
        """Predict the targets of any patients."""
        return np.asarray((self.reduction(columns) - self.centre) @ self.weights + self.intercept)


def _select_penalty(values: np.ndarray, vectors: np.ndarray, rotated: np.ndarray, centred: np.ndarray) -> np.ndarray:
    """Return for each target the penalty of least squared leave-one-out error."""
    errors = np.empty((len(PENALTIES), centred.shape[1]))
    for i, penalty in enumerate(PENALTIES):
        shrinkage = values / (values + penalty)
        leverage = 1 / len(values) + (vectors**2) @ shrinkage
        residual = centred - vectors @ (shrinkage[:, None] * rotated)
        errors[i] = ((residual / np.maximum(1 - leverage, 1e-9)[:, None]) ** 2).sum(axis=0)
    return np.asarray(PENALTIES[errors.argmin(axis=0)])
