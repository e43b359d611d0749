"""Subspace knowledge distillation: the slide-only student is trained towards the teacher (arXiv 2508.16479).

    L = L_task + a T^2 KL(teacher || student) + b MSE([embedding_T; embedding_M], [f_T; f_M])

The divergence is the task's own: between class distributions, or between the Bernoulli hazards of each time bin. For
numbers it is the mean squared difference of the standardised predictions, which have no temperature. Of a residual
target (`dml.training.distillation_targets`) the network's own logits h are judged on top of the linear reference:
KL(z + LP || h + LP), least at h = z; there are no embeddings then. Terms are weighted by patient where targets have
weights.
Differs from the authors' code, which takes a softmax over hazards and distils clusters of arbitrary order onto [tumor,
TME].

Shape legend: b patients, k classes or time bins, d width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.core.types import SUBSPACES, Kind, ModelOutput
from dml.models.likelihoods import LIKELIHOODS
from dml.training.distillation import DistillationTargets
from dml.training.loss_terms.registry import LossInputs, loss_term


@loss_term("prediction_distillation", model="student", key="prediction_weight")
def prediction_distillation(inputs: LossInputs) -> Float[Tensor, ""] | None:
    """Return the divergence between the teacher's and the student's predictions; nothing without a teacher."""
    targets, student = inputs.targets, inputs.output.logits
    if targets is None:
        return None
    teacher, temperature = targets.logits, inputs.params.distillation.temperature_of(inputs.task)
    if targets.reference is not None:
        head = student if inputs.batch.offset is None else student - inputs.batch.offset
        teacher, student = teacher + targets.reference, head + targets.reference
    return mean_over_targets(prediction_divergence(teacher, student, temperature, inputs.kind), targets)


@loss_term("feature_distillation", model="student", key="feature_weight")
def feature_distillation(inputs: LossInputs) -> Float[Tensor, ""] | None:
    """Return the distance between the teacher's and the student's embeddings; nothing without them."""
    if inputs.targets is None or not inputs.targets.embeddings:
        return None
    return mean_over_targets(feature_distance(inputs.targets, inputs.output), inputs.targets)


def prediction_divergence(
    teacher: Float[Tensor, "b k"], student: Float[Tensor, "b k"], temperature: float, kind: Kind
) -> Float[Tensor, "b"]:
    """T^2 KL(teacher || student) at temperature T, per patient; mean over the bins for hazards; numbers have no T."""
    if not LIKELIHOODS[kind].has_temperature:
        return LIKELIHOODS[kind].divergence(teacher, student)
    return temperature**2 * LIKELIHOODS[kind].divergence(teacher / temperature, student / temperature)


def feature_distance(targets: DistillationTargets, output: ModelOutput) -> Float[Tensor, "b"]:
    """Mean squared error between the embeddings of each subspace, per patient."""
    errors = [(output[s] - targets.embeddings[s]).square().mean(-1) for s in SUBSPACES]
    return torch.stack(errors).mean(0)


def mean_over_targets(per_patient: Float[Tensor, "b"], targets: DistillationTargets) -> Float[Tensor, ""]:
    """Mean over the patients with a target, each by its weight (of mean 1 in the fold); 0 if there is none."""
    has_target = targets.has_target.to(per_patient.dtype)
    if targets.weight is not None:
        per_patient = per_patient * targets.weight
    return (per_patient * has_target).sum() / has_target.sum().clamp_min(1.0)
