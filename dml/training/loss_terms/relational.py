"""Relational distillation: patients are as far apart in the student's tokens as in the teacher's.

    L = mean_{i<j} huber(d_ij / mean d - D_ij / mean D)        d, D: distances of tokens of student and teacher

The two spaces need not be the same. Source: relational knowledge distillation, distance-wise (Park et al. 2019,
arXiv 1904.05068); per subspace here.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dml.core.types import SUBSPACES
from dml.training.loss_terms.registry import LossInputs, loss_term

MIN_PATIENTS = 3
"""Patients with a target in a batch below which there are too few distances."""


@loss_term("relational_distillation", model="student", ablation_weight=1.0)
def relational_distillation(inputs: LossInputs) -> Float[Tensor, ""] | None:
    """Return the mean over the subspaces; nothing without a teacher or with fewer than three targets in a batch."""
    if inputs.targets is None or not inputs.targets.embeddings:
        return None
    has_target = inputs.targets.has_target
    if int(has_target.sum()) < MIN_PATIENTS:
        return None
    pairs = [(inputs.output[s][has_target], inputs.targets.embeddings[s][has_target]) for s in SUBSPACES]
    return torch.stack([distance_disagreement(student, teacher) for student, teacher in pairs]).mean()


def distance_disagreement(student: Float[Tensor, "n _"], teacher: Float[Tensor, "n _"]) -> Float[Tensor, ""]:
    """Huber loss between the relative distances of all pairs of patients."""
    ours, theirs = (functional.pdist(tokens) for tokens in (student, teacher.detach()))
    ours, theirs = (distance / distance.mean().clamp_min(1e-6) for distance in (ours, theirs))
    return functional.smooth_l1_loss(ours, theirs)
