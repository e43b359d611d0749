"""Balanced clustering: slide and genes of a patient belong to the same of K prototypes, which share patients equally.

    L = 1/2 (H(q_genes, softmax(C u / T)) + H(q_slide, softmax(C v / T)))

q are assignments of the batch in which every prototype has the same mass (Sinkhorn and Knopp), without gradient: so
that not all patients are put into one cluster. Other than the contrast, patients who are alike are no negatives.

Sources: SwAV (Caron et al., arXiv 2006.09882); clusters of slides and expression: MIRROR (arXiv 2503.00374).

Shape legend: b patients, k prototypes, d width.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dml.pretraining.network import PairEncoding

TEMPERATURE, SMOOTHNESS, ITERATIONS = 0.1, 0.05, 10
"""Of the predicted memberships, of the balanced assignments, and rounds of balancing."""


@torch.no_grad()
def balanced_assignments(scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """Return memberships with rows of sum one and, nearly, columns of sum b / k.

    Examples
    --------
    >>> scores = torch.tensor([[0.9, 0.5], [0.9, 0.6], [0.9, 0.7], [0.9, 0.8]])  # all are nearest to the first
    >>> balanced_assignments(scores).argmax(1).tolist()
    [0, 0, 1, 1]
    """
    mass = torch.softmax(scores.flatten() / SMOOTHNESS, 0).view_as(scores)
    for _ in range(ITERATIONS):
        mass = mass / mass.sum(0, keepdim=True).clamp_min(1e-30)
        mass = mass / mass.sum(1, keepdim=True).clamp_min(1e-30)
    return mass


def clustering_loss(encoding: PairEncoding, prototypes: Mapping[str, Float[Tensor, "k d"]]) -> Float[Tensor, ""]:
    """Return the swapped cross entropies, mean over subspaces."""
    losses = []
    for s, slide in encoding.slide.items():
        centres = functional.normalize(prototypes[s], dim=-1)
        of_slide, of_genes = slide @ centres.T, encoding.genes[s] @ centres.T
        for scores, others in ((of_slide, of_genes), (of_genes, of_slide)):
            losses.append(functional.cross_entropy(scores / TEMPERATURE, balanced_assignments(others)))
    return torch.stack(losses).mean()
