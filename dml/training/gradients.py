"""Confidence-guided gradient coordination (arXiv 2406.13979 and 2508.16479): the two subspaces must not fight.

The task loss reaches every parameter through the tumor token f_T, through the microenvironment token f_M, or through
both; the plain gradient is the sum g_T + g_M. Where the two conflict (g_T . g_M < 0), the gradient of the *less
confident* subspace is projected on the normal plane of the other's, once. The classifier's halves are compared row by
row. Differs from the authors' code, which subtracts the projection twice (turning conflict into agreement), touches
only the classifier, and measures survival confidence by a softmax over hazards.

Shape legend: k rows (classes or time bins), p parameters of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.models.nn.head import SubspaceHead
from dml.training.losses import log_likelihood
from dml.types import Branches, Target

Rows = Float[Tensor, "k p"]


@dataclass(frozen=True, slots=True)
class Coordination:
    """What one step did: pairs compared, pairs in conflict, and the sum of their cosines before it."""

    compared: int
    conflicts: Tensor
    cosine_sum: Tensor


def coordinate(tumor: Rows, tme: Rows, tumor_leads: bool) -> tuple[Rows, Rows, Bool[Tensor, "k"], Float[Tensor, "k"]]:
    """Resolve conflicts row by row.

    Returns
    -------
    tumor, tme : Tensor, k p
        The leader's rows unchanged; the other's, where they conflicted, orthogonal to the leader's.
    conflict : Tensor, k
        True where the rows pointed against each other.
    cosine : Tensor, k
        Their cosine before coordination.
    """
    leader, follower = (tumor, tme) if tumor_leads else (tme, tumor)
    dot, norm2 = (leader * follower).sum(-1), leader.square().sum(-1)
    conflict = dot < 0
    along = torch.where(conflict, dot / norm2.clamp_min(torch.finfo(dot.dtype).tiny), torch.zeros_like(dot))
    resolved = follower - along[:, None] * leader
    cosine = dot / (norm2.sqrt() * follower.norm(dim=-1)).clamp_min(1e-30)
    return (leader, resolved, conflict, cosine) if tumor_leads else (resolved, leader, conflict, cosine)


def confidences(head: SubspaceHead, branches: Branches, target: Target) -> tuple[float, float]:
    """Mean probability that each half of the head gives to what was observed (tumor, TME)."""
    if not target.known.any():
        return 0.5, 0.5
    with torch.no_grad():
        halves = head.halves(branches.tumor, branches.tme)
        tumor, tme = (log_likelihood(half, target)[target.known].exp().mean() for half in halves)
    return float(tumor), float(tme)


def coordinated_backward(
    loss: Float[Tensor, ""], branches: Branches, head: SubspaceHead, parameters: Sequence[nn.Parameter], target: Target
) -> Coordination:
    """Accumulate the coordinated gradient of the task loss into `parameters`.

    Everything upstream of the tokens that both subspaces reach is compared tensor by tensor; the two halves of the
    head's weight are compared row by row. Parameters reached through one subspace only keep their gradient. The graph
    is kept for other losses.
    """
    own: list[Tensor] = list(head.parameters())
    wanted = [branches.tumor, branches.tme, *own]
    at_tumor, at_tme, *at_head = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    tumor_confidence, tme_confidence = confidences(head, branches, target)
    tumor_leads = tumor_confidence >= tme_confidence
    upstream = [p for p in parameters if all(p is not q for q in own)]
    through = [
        torch.autograd.grad(token, upstream, at, retain_graph=True, allow_unused=True) if upstream else ()
        for token, at in ((branches.tumor, at_tumor), (branches.tme, at_tme))
    ]
    counts, cosines = _head(head, dict(zip(own, at_head, strict=True)), tumor_leads)
    for parameter, a, b in zip(upstream, *through, strict=True):
        if a is None or b is None:
            _accumulate(parameter, a if b is None else b)
            continue
        g_t, g_m, conflict, cosine = coordinate(a.reshape(1, -1), b.reshape(1, -1), tumor_leads)
        _accumulate(parameter, (g_t + g_m).view_as(parameter))
        counts.append(conflict)
        cosines.append(cosine)
    joined, cosine = torch.cat(counts), torch.cat(cosines)
    return Coordination(len(joined), joined.sum(), cosine.sum())


def _head(head: SubspaceHead, at: dict[Tensor, Tensor | None], tumor_leads: bool) -> tuple[list[Tensor], list[Tensor]]:
    left, right = at.pop(head.tumor.weight), at.pop(head.tme.weight)
    for parameter, gradient in at.items():
        _accumulate(parameter, gradient)
    if left is None or right is None:
        return [], []
    g_t, g_m, conflict, cosine = coordinate(left, right, tumor_leads)
    _accumulate(head.tumor.weight, g_t)
    _accumulate(head.tme.weight, g_m)
    return [conflict], [cosine]


def _accumulate(parameter: Tensor, gradient: Tensor | None) -> None:
    if gradient is not None:
        parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
