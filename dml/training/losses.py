"""Losses per patient: task likelihoods, inter-magnification consistency, disentangling.

Shape legend: b patients, k classes or time bins, n fine tokens, c coarse tokens, d width.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from dml.core.types import ClassTarget, MagnificationTokens, Target


def discrete_time_log_likelihood(
    logits: Float[Tensor, "b k"], bins: Int[Tensor, "b"], event: Bool[Tensor, "b"]
) -> Float[Tensor, "b"]:
    """Log-likelihood of what was observed, hazards h = sigmoid(logits).

    An event in bin j: log h_j + sum_{i<j} log(1 - h_i). Censored in bin j: sum_{i<=j} log(1 - h_i), survival past it.
    """
    survived = -functional.softplus(logits)  # log(1 - h)
    past = survived.cumsum(1).gather(1, bins[:, None])[:, 0]
    at = logits.gather(1, bins[:, None])[:, 0]  # log h - log(1 - h)
    return past + torch.where(event, at, torch.zeros_like(at))


def log_likelihood(logits: Float[Tensor, "b k"], target: Target) -> Float[Tensor, "b"]:
    """Log-probability that the logits give to each patient's observation; 0 where it is not known."""
    if isinstance(target, ClassTarget):
        observed = -functional.cross_entropy(logits, target.label, reduction="none")
    else:
        observed = discrete_time_log_likelihood(logits, target.bin, target.event)
    return observed.masked_fill(~target.known, 0.0)


def task_loss(
    logits: Float[Tensor, "b k"],
    target: Target,
    class_weights: Float[Tensor, "k"] | None = None,
    cox: float = 0.0,
) -> Float[Tensor, ""]:
    """Negative log-likelihood, mean over the patients with a known target (0 if there is none), by class weight.

    `cox` is the share that Cox's partial likelihood has in the loss of a survival task.
    """
    likelihood = _negative_log_likelihood(logits, target, class_weights)
    if not cox or isinstance(target, ClassTarget):
        return likelihood
    risk = log_cumulative_hazard(logits)
    partial = cox_loss(risk[target.known], target.days[target.known], target.event[target.known])
    return (1 - cox) * likelihood + cox * partial


def log_cumulative_hazard(logits: Float[Tensor, "b k"]) -> Float[Tensor, "b"]:
    """Risk score log(-log S) at the end of the last bin, hazards h = sigmoid(logits)."""
    return torch.log(functional.softplus(logits).sum(1).clamp_min(1e-12))


def cox_loss(risk: Float[Tensor, "b"], days: Float[Tensor, "b"], event: Bool[Tensor, "b"]) -> Float[Tensor, ""]:
    """Negative log partial likelihood (Cox 1972, ties by Breslow), mean over the events of the batch; 0 without one."""
    at_risk = days[None, :] >= days[:, None]
    log_sum = torch.logsumexp(risk[None, :].masked_fill(~at_risk, -torch.inf), dim=1)
    observed = event.to(risk.dtype)
    return (observed * (log_sum - risk)).sum() / observed.sum().clamp_min(1.0)


def _negative_log_likelihood(logits: Tensor, target: Target, class_weights: Tensor | None) -> Tensor:
    weights = target.known.to(logits.dtype)
    if class_weights is not None and isinstance(target, ClassTarget):
        weights = weights * class_weights.to(weights.device)[target.label]
    return -(weights * log_likelihood(logits, target)).sum() / weights.sum().clamp_min(1e-6)


def inter_magnification_consistency(
    fine_relevance: Float[Tensor, "b n"], coarse_relevance: Float[Tensor, "b c"], fine: MagnificationTokens
) -> Float[Tensor, ""]:
    """How far two magnifications look at different tissue: Jensen-Shannon divergence in [0, 1], mean over patients.

    The attention of fine tokens is summed into the coarse token that physically contains them; both maps are
    renormalised on the tissue seen at both magnifications. 0 for patients without shared tissue. Differs from the
    authors' code, which takes a variance over the batch: 0 for unrelated maps that are alike across patients, NaN for
    one patient.
    """
    if fine.parent is None:
        return fine_relevance.new_zeros(())
    inside = fine.parent >= 0
    parent = fine.parent.clamp_min(0)
    gathered = torch.zeros_like(coarse_relevance).scatter_add(1, parent, fine_relevance * inside)
    shared = torch.zeros_like(coarse_relevance).scatter_add(1, parent, inside.to(coarse_relevance.dtype)) > 0
    comparable = shared.any(1)
    p, q = _renormalised(gathered, shared), _renormalised(coarse_relevance, shared)
    middle = (p + q) / 2
    divergence = (_kl(p, middle) + _kl(q, middle)) / 2 / math.log(2)
    return (divergence * comparable).sum() / comparable.sum().clamp_min(1)


def expression_consistency(
    said: Sequence[Float[Tensor, "b g"]], genes: Float[Tensor, "b g"], present: Bool[Tensor, "b"]
) -> Float[Tensor, ""]:
    """How far the genes that the tissue of each magnification tells are from each other and from the measured ones.

    Mean squared error of scaled genes: to the truth over patients with a transcriptome, plus between neighbouring
    magnifications over all patients.
    """
    measured = present.to(genes.dtype)
    wrong = [((x - genes).square().mean(1) * measured).sum() / measured.sum().clamp_min(1.0) for x in said]
    apart = [(x - y).square().mean() for x, y in pairwise(said)]
    return torch.stack(wrong).mean() + (torch.stack(apart).mean() if apart else 0.0)


def distance_correlation(x: Float[Tensor, "b d"], y: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Distance correlation of two batches of tokens in [0, 1] (Szekely et al. 2007); 0 for fewer than four patients."""
    if len(x) < 4:
        return x.new_zeros(())
    a, b = _centred_distances(x), _centred_distances(y)
    covariance, variance = (a * b).mean(), (a * a).mean() * (b * b).mean()
    return (covariance.clamp_min(0.0) / variance.clamp_min(1e-12).sqrt() + 1e-12).sqrt()


def _renormalised(x: Tensor, where: Tensor) -> Tensor:
    kept = (x * where).clamp_min(0.0) + 1e-12 * where
    return kept / kept.sum(1, keepdim=True).clamp_min(1e-12)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.clamp_min(1e-30).log() - q.clamp_min(1e-30).log())).sum(1)  # finite gradient at p = 0, unlike xlogy


def _centred_distances(x: Tensor) -> Tensor:
    squared = (x[:, None] - x[None]).square().sum(-1)
    distances = (squared + 1e-12).sqrt()
    rows, columns = distances.mean(0, keepdim=True), distances.mean(1, keepdim=True)
    return distances - rows - columns + distances.mean()
