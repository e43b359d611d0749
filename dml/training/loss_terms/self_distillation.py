"""Self-distillation of the teacher: a damaged view of a patient must give what the whole one gives (after EDRL).

    L = KL(stop(p) || p') + mean_s |stop(f_s) - f_s'|^2 + L_task(p')      p', f': of the damaged view

Both views are of the same step (`dml.models.nn.degraded_view`); the whole view has no gradient from the first two.
Source: arXiv 2503.05319, of which the abstract was to be had: complete inputs teach incomplete ones inside one network.
"""

from jaxtyping import Float
from torch import Tensor

from dml.core.types import SUBSPACES
from dml.training.loss_terms.registry import LossInputs, loss_term
from dml.training.losses import LIKELIHOODS, task_loss


@loss_term("self_distillation", model="teacher", ablation_weight=0.5)
def self_distillation(inputs: LossInputs) -> Float[Tensor, ""] | None:
    """Return divergence, distance and task loss of the damaged view; nothing where the network made none."""
    whole, degraded = inputs.output, inputs.output.degraded
    if degraded is None:
        return None
    divergence = LIKELIHOODS[inputs.kind].divergence(whole.logits.detach(), degraded.logits).mean()
    distances = [(whole[s].detach() - degraded[s]).square().mean() for s in SUBSPACES]
    cox_weight = inputs.params.optimisation.cox_loss_weight
    task = task_loss(degraded.logits, inputs.batch.target, cox_weight=cox_weight)
    return divergence + sum(distances[1:], start=distances[0]) / len(distances) + task
