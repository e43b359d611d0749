"""Gene programs of a subspace: linear scores of its genes that a student is taught to predict from its own token.

    z_p = sqrt(w_p) (sum_g W_gp x_g - m_p) / s_p        x: scaled genes, W: mean of the group and principal components

w is the share of the variance of each program that the slide predicts out of fold, divided by its mean: what a slide
cannot tell is no lesson. Squared errors of z are then squared errors weighted by it.

Shape legend: n patients, g genes, p programs.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from dml.data.vectors import Matrix, Vector


class GenePrograms(BaseModel):
    """Programs of one gene group, fitted to training patients.

    Attributes
    ----------
    directions : Matrix, g p
        Weights of the genes: first the mean of the group, then principal components.
    mean, deviation : Vector, p
        Of the scores over the training patients.
    predictability : Vector, p
        Share of the variance that the slide predicts out of fold, at least 0.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    directions: Matrix
    mean: Vector
    deviation: Vector
    predictability: Vector

    def __call__(self, genes: Float[np.ndarray, "n g"]) -> Float[np.ndarray, "n p"]:
        """Return the scores, standardised and scaled by the root of their weight."""
        return np.asarray(self.standardise(genes) * np.sqrt(self.weights), np.float32)

    def standardise(self, genes: Float[np.ndarray, "n g"]) -> Float[np.ndarray, "n p"]:
        """Return the scores in standard deviations from the mean of the training patients."""
        return np.asarray((genes @ self.directions - self.mean) / self.deviation)

    @property
    def weights(self) -> Float[np.ndarray, "p"]:
        """Weight of each program, of mean 1; all 0 if the slide predicts none."""
        total = float(self.predictability.mean())
        return np.asarray(self.predictability / total if total > 0 else np.zeros_like(self.predictability))

    @classmethod
    def fit(
        cls, genes: Float[np.ndarray, "n g"], components: int, predict: Callable[[np.ndarray], np.ndarray]
    ) -> "GenePrograms":
        """Fit to scaled genes of training patients.

        Parameters
        ----------
        genes : array, n x g
            Scaled genes of one group.
        components : int
            Principal components beside the mean of the group.
        predict : callable
            From the scores (n p) to the share of the variance of each that the slide predicts (p).
        """
        directions = cls.directions_of(genes, components)
        scores = genes @ directions
        deviation = np.maximum(scores.std(0), 1e-6)
        return cls(directions=directions, mean=scores.mean(0), deviation=deviation, predictability=predict(scores))

    @classmethod
    def directions_of(cls, genes: Float[np.ndarray, "n g"], components: int) -> Float[np.ndarray, "g p"]:
        """Return the mean of the group and the leading principal components of scaled genes."""
        centred = genes - genes.mean(0)
        axes = np.linalg.svd(centred, full_matrices=False)[2][:components]
        signs = np.where(axes.sum(1) < 0, -1.0, 1.0)  # a component has no sign of its own
        return np.concatenate([np.full((1, genes.shape[1]), 1 / genes.shape[1]), axes * signs[:, None]]).T
