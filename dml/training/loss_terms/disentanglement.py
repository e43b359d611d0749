"""Disentanglement: the embeddings of the two subspaces must be independent of each other.

Shape legend: b patients, d width.
"""

from jaxtyping import Float
from torch import Tensor

from dml.training.loss_terms.registry import LossInputs, loss_term


@loss_term("disentanglement", model="teacher", key="disentanglement_weight", ablation_weight=0.3)
def disentanglement(inputs: LossInputs) -> Float[Tensor, ""]:
    """Return the distance correlation between the subspaces."""
    return distance_correlation(inputs.output["tumor"], inputs.output["tme"])


def distance_correlation(x: Float[Tensor, "b d"], y: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Distance correlation of two batches in [0, 1] (Szekely et al. 2007); 0 for fewer than four patients."""
    if len(x) < 4:
        return x.new_zeros(())
    a, b = _centre_distances(x), _centre_distances(y)
    covariance, variance = (a * b).mean(), (a * a).mean() * (b * b).mean()
    return (covariance.clamp_min(0.0) / variance.clamp_min(1e-12).sqrt() + 1e-12).sqrt()


def _centre_distances(x: Tensor) -> Tensor:
    squared = (x[:, None] - x[None]).square().sum(-1)
    distances = (squared + 1e-12).sqrt()
    rows, columns = distances.mean(0, keepdim=True), distances.mean(1, keepdim=True)
    return distances - rows - columns + distances.mean()
