"""Confidence-guided gradient coordination (arXiv 2406.13979 and 2508.16479): conflicting gradients of two subspaces.

The task loss reaches every parameter through the tumor embedding f_T, through the microenvironment's f_M, or through
both; the plain gradient is the sum g_T + g_M. Where the two conflict (g_T . g_M < 0), the gradient of the *less
confident* subspace is projected on the normal plane of the other's, once. The head's maps are compared row by row.
Differs from the authors' code, which subtracts the projection twice (turning conflict into agreement), changes only the
classifier, and measures survival confidence by a softmax over hazards.

Two backward passes below the embeddings are needed, since every comparison needs both gradients; all comparisons are
then made together, and nothing waits for the device: which subspace leads stays a tensor.

Shape legend: k rows (classes or time bins), p parameters of a row, t tensors compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.core.types import SUBSPACES, ModelOutput, Target
from dml.models.likelihoods import log_likelihood
from dml.models.nn.head import BranchHead

Rows = Float[Tensor, "k p"]
Leads = bool | Bool[Tensor, ""]
Overlaps = tuple[Float[Tensor, "t"], Float[Tensor, "t"], Bool[Tensor, "t"], Float[Tensor, "t"]]
"""Factors of the TME's gradient to subtract from the tumor's and the reverse, conflicts, cosines."""
Project = Callable[[Float[Tensor, "t"], Float[Tensor, "2 t"], Leads], Overlaps]


@dataclass(frozen=True, slots=True)
class Coordination:
    """Counts of one step: pairs compared, pairs in conflict, and the sum of their cosines before it."""

    compared: int
    conflicts: Tensor
    cosine_sum: Tensor


def project_conflicts(dot: Float[Tensor, "t"], size: Float[Tensor, "2 t"], tumor_leads: Leads) -> Overlaps:
    """Return how far each gradient of the less confident subspace goes against the other's.

    Parameters
    ----------
    dot : Tensor, t
        Scalar products of the gradients of the two subspaces.
    size : Tensor, 2 t
        Their norms (tumor, TME).
    tumor_leads : bool or Tensor
        Whether the tumor subspace is the more confident one.
    """
    conflict = dot < 0
    share = dot / size.square().clamp_min(torch.finfo(dot.dtype).tiny)  # 2 t: along tumor, along tme
    leads = torch.as_tensor(tumor_leads, device=dot.device)
    zero = torch.zeros_like(dot)
    off_tumor = torch.where(conflict & ~leads, share[1], zero)
    off_tme = torch.where(conflict & leads, share[0], zero)
    return off_tumor, off_tme, conflict, dot / size.prod(0).clamp_min(1e-30)


def coordinate(
    tumor: Rows, tme: Rows, tumor_leads: Leads, project: Project = project_conflicts
) -> tuple[Rows, Rows, Bool[Tensor, "k"], Float[Tensor, "k"]]:
    """Resolve conflicts row by row.

    Returns
    -------
    tumor, tme : Tensor, k p
        The leader's rows unchanged; the other's, where they conflicted, orthogonal to the leader's.
    conflict : Tensor, k
        True where the rows pointed against each other.
    cosine : Tensor, k
        Their cosine before coordination.

    Examples
    --------
    >>> tumor, tme, conflict, _ = coordinate(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 1.0]]), True)
    >>> tumor.tolist(), tme.tolist(), conflict.tolist()
    ([[1.0, 0.0]], [[0.0, 1.0]], [True])
    """
    dot = (tumor * tme).sum(-1)
    size = torch.stack([tumor.norm(dim=-1), tme.norm(dim=-1)])
    off_tumor, off_tme, conflict, cosine = project(dot, size, tumor_leads)
    return tumor - off_tumor[:, None] * tme, tme - off_tme[:, None] * tumor, conflict, cosine


def branch_confidence(head: BranchHead, output: ModelOutput, target: Target) -> Float[Tensor, "2"]:
    """Mean probability (of a number: likelihood) that each subspace alone gives to what was observed (tumor, TME)."""
    known = target.known
    with torch.no_grad():
        logits = head.branch_logits([output[s] for s in SUBSPACES])
        probability = torch.stack([log_likelihood(alone, target).exp() for alone in logits])  # 2 b
        mean = (probability * known).sum(1) / known.sum().clamp_min(1)
        return torch.where(known.any(), mean, torch.full_like(mean, 0.5))


def coordinated_backward(
    loss: Float[Tensor, ""],
    output: ModelOutput,
    head: BranchHead,
    parameters: Sequence[nn.Parameter],
    target: Target,
    confidence: Float[Tensor, "2"] | None = None,
    project: Project = project_conflicts,
) -> Coordination:
    """Accumulate the coordinated gradient of the task loss into `parameters`.

    Everything upstream of the embeddings that both subspaces reach is compared tensor by tensor; the two maps of the
    head are compared row by row. Parameters reached through one subspace only keep their gradient. The graph is kept
    for other losses.

    Parameters
    ----------
    loss : Tensor
        The task's.
    output : ModelOutput
        With embeddings of both subspaces.
    head : BranchHead
        Of the model, over the subspaces in their order.
    parameters : sequence of Parameter
        All of the model.
    target : Target
        What was observed, for the confidence.
    confidence : Tensor, 2, optional
        Confidence of each subspace; by default `branch_confidence`.
    project : callable
        How conflicts are resolved.
    """
    of_head: list[Tensor] = list(head.parameters())
    embeddings = [output[s] for s in SUBSPACES]
    wanted = [*embeddings, *of_head]
    at_tumor, at_tme, *at_head = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    if confidence is None:
        confidence = branch_confidence(head, output, target)
    tumor_leads = confidence[0] >= confidence[1]
    ids = {id(p) for p in of_head}
    upstream = [p for p in parameters if id(p) not in ids]
    through = [
        torch.autograd.grad(embedding, upstream, at, retain_graph=True, allow_unused=True) if upstream else ()
        for embedding, at in zip(embeddings, (at_tumor, at_tme), strict=True)
    ]
    conflicts, cosines = _coordinate_head(head, dict(zip(of_head, at_head, strict=True)), tumor_leads, project)
    shared = []
    for parameter, tumor, tme in zip(upstream, *through, strict=True):
        if tumor is None or tme is None:
            _accumulate(parameter, tumor if tme is None else tme)
        else:
            shared.append((parameter, tumor, tme))
    if shared:
        conflict, cosine = _coordinate_shared(shared, tumor_leads, project)
        conflicts, cosines = [*conflicts, conflict], [*cosines, cosine]
    all_conflicts, all_cosines = torch.cat(conflicts), torch.cat(cosines)
    return Coordination(len(all_conflicts), all_conflicts.sum(), all_cosines.sum())


def _coordinate_shared(
    shared: list[tuple[nn.Parameter, Tensor, Tensor]], tumor_leads: Tensor, project: Project
) -> tuple[Tensor, Tensor]:
    """Coordinate all tensors at once: the sum of what `coordinate` returns is g_T (1 - off_M) + g_M (1 - off_T)."""
    parameters, tumor, tme = (list(column) for column in zip(*shared, strict=True))
    dot = torch.stack([torch.dot(a.reshape(-1), b.reshape(-1)) for a, b in zip(tumor, tme, strict=True)])
    size = torch.stack([*torch._foreach_norm(tumor), *torch._foreach_norm(tme)]).view(2, -1)
    off_tumor, off_tme, conflict, cosine = project(dot, size, tumor_leads)
    keep_tumor, keep_tme = (1 - off_tme).unbind(), (1 - off_tumor).unbind()
    sums = torch._foreach_mul(tumor, keep_tumor)
    torch._foreach_add_(sums, torch._foreach_mul(tme, keep_tme))
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient.contiguous() if parameter.grad is None else parameter.grad + gradient
    return conflict, cosine


def _coordinate_head(
    head: BranchHead, gradients: dict[Tensor, Tensor | None], tumor_leads: Tensor, project: Project
) -> tuple[list[Tensor], list[Tensor]]:
    tumor, tme = head.weights
    at_tumor, at_tme = gradients.pop(tumor), gradients.pop(tme)
    for parameter, gradient in gradients.items():
        _accumulate(parameter, gradient)
    if at_tumor is None or at_tme is None:
        return [], []
    g_tumor, g_tme, conflict, cosine = coordinate(at_tumor, at_tme, tumor_leads, project)
    _accumulate(tumor, g_tumor)
    _accumulate(tme, g_tme)
    return [conflict], [cosine]


def _accumulate(parameter: Tensor, gradient: Tensor | None) -> None:
    if gradient is not None:
        copy = gradient.clone(memory_format=torch.contiguous_format)  # autograd may share it among parameters
        parameter.grad = copy if parameter.grad is None else parameter.grad + copy
