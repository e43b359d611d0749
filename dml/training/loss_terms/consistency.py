"""Inter-magnification consistency: magnifications attend to the same tissue, or predict the same genes.

Shape legend: b patients, n fine tokens, c coarse tokens, g genes.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dml.core.types import SUBSPACES, MagnificationTokens
from dml.training.loss_terms.registry import LossInputs, loss_term


@loss_term("consistency", model="teacher", key="consistency_weight", min_magnifications=2)
def consistency(inputs: LossInputs) -> Float[Tensor, ""] | None:
    """Return the consistency that ``teacher.consistency_target`` asks for, mean over subspaces."""
    batch, output = inputs.batch, inputs.output
    if output.predicted_genes:
        genes = batch.expression
        return torch.stack(
            [expression_consistency(levels, genes[s], genes.present) for s, levels in output.predicted_genes.items()]
        ).mean()
    if not inputs.params.teacher.use_fusion or len(batch.levels) < 2:
        return None
    terms = [
        inter_magnification_consistency(maps[i], maps[i + 1], level)
        for maps in (output.attention[s] for s in SUBSPACES)
        for i, level in enumerate(batch.levels[:-1])
    ]
    return torch.stack(terms).mean()


def inter_magnification_consistency(
    fine_attention: Float[Tensor, "b n"], coarse_attention: Float[Tensor, "b c"], fine: MagnificationTokens
) -> Float[Tensor, ""]:
    """Jensen-Shannon divergence in [0, 1] of the attention of two magnifications, mean over patients.

    The attention of fine tokens is summed into the coarse token that physically contains them; both maps are
    renormalised on the tissue present at both magnifications. 0 for patients without shared tissue. Differs from the
    authors' code, which takes a variance over the batch: 0 for unrelated maps that are alike across patients, NaN for
    one patient.
    """
    if fine.parent is None:
        return fine_attention.new_zeros(())
    inside = fine.parent >= 0
    parent = fine.parent.clamp_min(0)
    summed = torch.zeros_like(coarse_attention).scatter_add(1, parent, fine_attention * inside)
    shared = torch.zeros_like(coarse_attention).scatter_add(1, parent, inside.to(coarse_attention.dtype)) > 0
    comparable = shared.any(1)
    p, q = _renormalise(summed, shared), _renormalise(coarse_attention, shared)
    middle = (p + q) / 2
    divergence = (_kl(p, middle) + _kl(q, middle)) / 2 / math.log(2)
    return (divergence * comparable).sum() / comparable.sum().clamp_min(1)


def expression_consistency(
    predicted: Sequence[Float[Tensor, "b g"]], genes: Float[Tensor, "b g"], present: Bool[Tensor, "b"]
) -> Float[Tensor, ""]:
    """Mean squared error of the genes predicted at each magnification, to the measured ones and to each other.

    To the measured genes over patients with a transcriptome, plus between neighbouring magnifications over all.
    """
    measured = present.to(genes.dtype)
    errors = [((x - genes).square().mean(1) * measured).sum() / measured.sum().clamp_min(1.0) for x in predicted]
    between = [(x - y).square().mean() for x, y in pairwise(predicted)]
    return torch.stack(errors).mean() + (torch.stack(between).mean() if between else 0.0)


def _renormalise(x: Tensor, mask: Tensor) -> Tensor:
    masked = (x * mask).clamp_min(0.0) + 1e-12 * mask
    return masked / masked.sum(1, keepdim=True).clamp_min(1e-12)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.clamp_min(1e-30).log() - q.clamp_min(1e-30).log())).sum(1)  # finite gradient at p = 0, unlike xlogy
