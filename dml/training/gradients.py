"""Confidence-guided gradient coordination (arXiv 2406.13979 and 2508.16479): the two subspaces must not fight.

The task loss reaches every parameter through the tumor token f_T, through the microenvironment token f_M, or through
both; the plain gradient is the sum g_T + g_M. Where the two conflict (g_T . g_M < 0), the gradient of the *less
confident* subspace is projected on the normal plane of the other's, once. The classifier's halves are compared row by
row. Differs from the authors' code, which subtracts the projection twice (turning conflict into agreement), touches
only the classifier, and measures survival confidence by a softmax over hazards.

Two passes through what lies below the tokens are needed, since every comparison needs both gradients; all comparisons
are then made together, and nothing waits for the device: which subspace leads stays a tensor.

Shape legend: k rows (classes or time bins), p parameters of a row, t tensors compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.core.types import ModelOutput, Target
from dml.models.nn.head import SubspaceHead
from dml.training.losses import log_likelihood

Rows = Float[Tensor, "k p"]
Leads = bool | Bool[Tensor, ""]


@dataclass(frozen=True, slots=True)
class Coordination:
    """What one step did: pairs compared, pairs in conflict, and the sum of their cosines before it."""

    compared: int
    conflicts: Tensor
    cosine_sum: Tensor


def coordinate(tumor: Rows, tme: Rows, tumor_leads: Leads) -> tuple[Rows, Rows, Bool[Tensor, "k"], Float[Tensor, "k"]]:
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
    dot = (tumor * tme).sum(-1)
    size = torch.stack([tumor.norm(dim=-1), tme.norm(dim=-1)])
    off_tumor, off_tme, conflict, cosine = _overlaps(dot, size, tumor_leads)
    return tumor - off_tumor[:, None] * tme, tme - off_tme[:, None] * tumor, conflict, cosine


def _overlaps(
    dot: Float[Tensor, "t"], size: Float[Tensor, "2 t"], tumor_leads: Leads
) -> tuple[Float[Tensor, "t"], Float[Tensor, "t"], Bool[Tensor, "t"], Float[Tensor, "t"]]:
    """Return how much of the TME's gradient to take from the tumor's and the reverse, conflicts, cosines."""
    conflict = dot < 0
    share = dot / size.square().clamp_min(torch.finfo(dot.dtype).tiny)  # 2 t: along tumor, along tme
    leads = torch.as_tensor(tumor_leads, device=dot.device)
    nothing = torch.zeros_like(dot)
    off_tumor = torch.where(conflict & ~leads, share[1], nothing)
    off_tme = torch.where(conflict & leads, share[0], nothing)
    return off_tumor, off_tme, conflict, dot / size.prod(0).clamp_min(1e-30)


def confidences(head: SubspaceHead, branches: ModelOutput, target: Target) -> tuple[float, float]:
    """Mean probability that each half of the head gives to what was observed (tumor, TME)."""
    tumor, tme = _confidences(head, branches, target).tolist()
    return tumor, tme


def _confidences(head: SubspaceHead, branches: ModelOutput, target: Target) -> Float[Tensor, "2"]:
    known = target.known
    with torch.no_grad():
        halves = head.halves(branches["tumor"], branches["tme"])
        given = torch.stack([log_likelihood(half, target).exp() for half in halves])  # 2 b
        mean = (given * known).sum(1) / known.sum().clamp_min(1)
        return torch.where(known.any(), mean, torch.full_like(mean, 0.5))


def coordinated_backward(
    loss: Float[Tensor, ""],
    branches: ModelOutput,
    head: SubspaceHead,
    parameters: Sequence[nn.Parameter],
    target: Target,
) -> Coordination:
    """Accumulate the coordinated gradient of the task loss into `parameters`.

    Everything upstream of the tokens that both subspaces reach is compared tensor by tensor; the two halves of the
    head's weight are compared row by row. Parameters reached through one subspace only keep their gradient. The graph
    is kept for other losses.
    """
    own: list[Tensor] = list(head.parameters())
    wanted = [branches["tumor"], branches["tme"], *own]
    at_tumor, at_tme, *at_head = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    confidence = _confidences(head, branches, target)
    tumor_leads = confidence[0] >= confidence[1]
    ids = {id(p) for p in own}
    upstream = [p for p in parameters if id(p) not in ids]
    through = [
        torch.autograd.grad(token, upstream, at, retain_graph=True, allow_unused=True) if upstream else ()
        for token, at in ((branches["tumor"], at_tumor), (branches["tme"], at_tme))
    ]
    conflicts, cosines = _head(head, dict(zip(own, at_head, strict=True)), tumor_leads)
    both = []
    for parameter, a, b in zip(upstream, *through, strict=True):
        if a is None or b is None:
            _accumulate(parameter, a if b is None else b)
        else:
            both.append((parameter, a, b))
    if both:
        conflict, cosine = _resolved(both, tumor_leads)
        conflicts, cosines = [*conflicts, conflict], [*cosines, cosine]
    joined, cosine = torch.cat(conflicts), torch.cat(cosines)
    return Coordination(len(joined), joined.sum(), cosine.sum())


def _resolved(both: list[tuple[nn.Parameter, Tensor, Tensor]], tumor_leads: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinate all tensors at once: the sum of what `coordinate` returns is g_T (1 - off_M) + g_M (1 - off_T)."""
    parameters, tumor, tme = (list(column) for column in zip(*both, strict=True))
    dot = torch.stack([torch.dot(a.reshape(-1), b.reshape(-1)) for a, b in zip(tumor, tme, strict=True)])
    size = torch.stack([*torch._foreach_norm(tumor), *torch._foreach_norm(tme)]).view(2, -1)
    off_tumor, off_tme, conflict, cosine = _overlaps(dot, size, tumor_leads)
    keep_tumor, keep_tme = (1 - off_tme).unbind(), (1 - off_tumor).unbind()
    sums = torch._foreach_mul(tumor, keep_tumor)
    torch._foreach_add_(sums, torch._foreach_mul(tme, keep_tme))
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient.contiguous() if parameter.grad is None else parameter.grad + gradient
    return conflict, cosine


def _head(
    head: SubspaceHead, at: dict[Tensor, Tensor | None], tumor_leads: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
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
        own = gradient.clone(memory_format=torch.contiguous_format)  # autograd may have given it to others, too
        parameter.grad = own if parameter.grad is None else parameter.grad + own
