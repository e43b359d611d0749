"""Self-distillation of the teacher: a damaged view must give what the whole one gives (after EDRL, arXiv 2503.05319).

L = KL(stop(p) || p') + mean_s |stop(f_s) - f_s'|^2 + L_task(p')      p', f': of the damaged view
"""

from torch import Tensor

from dml.models.likelihoods import LIKELIHOODS
from dml.models.nn.degraded_view import distance
from dml.training.loss_terms.registry import LossInputs, loss_term
from dml.training.losses import task_loss


@loss_term("self_distillation", model="teacher", ablation_weight=0.5)
def self_distillation(inputs: LossInputs) -> Tensor | None:
    """Return divergence, distance and task loss of the damaged view; nothing where the network made none."""
    full, part = inputs.output, inputs.output.degraded
    if part is None:
        return None
    task = task_loss(part.logits, inputs.batch.target, cox_weight=inputs.params.optimisation.cox_loss_weight)
    return LIKELIHOODS[inputs.kind].divergence(full.logits.detach(), part.logits).mean() + distance(full, part) + task
