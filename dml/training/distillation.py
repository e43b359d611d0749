"""Subspace knowledge distillation: a slide-only student learns from the slide + transcriptome teacher.

Source: arXiv 2508.16479.

    L = L_task + a T^2 KL(teacher || student) + b MSE([token_T; token_M], [f_T; f_M])

The divergence is the task's own: between class distributions, or between the Bernoulli hazards of each time bin.
Differs from the authors' code, which takes a softmax over hazards and distils clusters of arbitrary order onto [tumor,
TME].

Shape legend: b patients, k classes or time bins, d width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from dml.core.types import SUBSPACES, Kind, ModelOutput


@dataclass(frozen=True, slots=True)
class DistillationTargets:
    """What a teacher says of a batch; `given` False where it has no transcriptome to teach from."""

    tumor: Float[Tensor, "b d"]
    tme: Float[Tensor, "b d"]
    logits: Float[Tensor, "b k"]
    given: Bool[Tensor, "b"]


def prediction_divergence(
    teacher: Float[Tensor, "b k"], student: Float[Tensor, "b k"], temperature: float, kind: Kind
) -> Float[Tensor, "b"]:
    """T^2 KL(teacher || student) at temperature T, per patient; mean over the bins for hazards."""
    p, q = teacher / temperature, student / temperature
    if kind == "classification":
        log_p, log_q = torch.log_softmax(p, -1), torch.log_softmax(q, -1)
        return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)
    hazard = torch.sigmoid(p)
    bernoulli = hazard * (p - q) - functional.softplus(p) + functional.softplus(q)
    return temperature**2 * bernoulli.mean(-1)


def feature_distance(lesson: DistillationTargets, student: ModelOutput) -> Float[Tensor, "b"]:
    """Mean squared error between each student token and the teacher's token of the same subspace, per patient."""
    errors = [(student[s] - getattr(lesson, s)).square().mean(-1) for s in SUBSPACES]
    return torch.stack(errors).mean(0)


def exchange(lessons: Mapping[str, DistillationTargets], seed: int) -> dict[str, DistillationTargets]:
    """Give each taught patient the lesson of another taught one, at random: what distillation is to be told from."""
    taught = [patient for patient, lesson in lessons.items() if bool(lesson.given)]
    order = np.random.default_rng(seed).permutation(len(taught))
    around = {taught[a]: taught[b] for a, b in zip(order, np.roll(order, 1), strict=True)}
    return {patient: lessons[around.get(patient, patient)] for patient in lessons}


def taught_mean(per_patient: Float[Tensor, "b"], lesson: DistillationTargets) -> Float[Tensor, ""]:
    """Mean over the patients the teacher taught; 0 if there is none."""
    given = lesson.given.to(per_patient.dtype)
    return (per_patient * given).sum() / given.sum().clamp_min(1.0)
