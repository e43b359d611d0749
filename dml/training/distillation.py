"""Targets of distillation: the embeddings and logits of one teacher member for each patient.

Shape legend: b patients, k classes or time bins, d width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dml.core.types import SUBSPACES, Cohort, ModelOutput


@dataclass(frozen=True, slots=True)
class DistillationTargets:
    """A teacher's output for a batch; `has_target` is False for a patient without transcriptome.

    `embeddings` are those of the subspaces, by name; none for a residual, whose `logits` are what is left beside the
    `reference`. Without `weight` all patients count the same. Defined in `dml.training.distillation_targets`.
    """

    embeddings: Mapping[str, Float[Tensor, "b d"]]
    logits: Float[Tensor, "b k"]
    has_target: Bool[Tensor, "b"]
    reference: Float[Tensor, "b k"] | None = None
    weight: Float[Tensor, "b"] | None = None

    @classmethod
    def stack(cls, targets: Sequence["DistillationTargets"]) -> "DistillationTargets":
        """Stack the targets of single patients into a batch."""
        return cls(
            {s: torch.cat([t.embeddings[s] for t in targets]) for s in targets[0].embeddings},
            torch.cat([t.logits for t in targets]),
            torch.cat([t.has_target for t in targets]),
            _join([t.reference for t in targets]),
            _join([t.weight for t in targets]),
        )


def _join(parts: Sequence[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def split_targets(
    patient_ids: Sequence[str], output: ModelOutput, has_target: Bool[Tensor, "b"]
) -> dict[str, DistillationTargets]:
    """Return the targets of each patient of a batch."""
    targets: dict[str, DistillationTargets] = {}
    for i, patient in enumerate(patient_ids):
        row = slice(i, i + 1)
        embeddings: dict[str, Tensor] = {s: output[s][row].clone() for s in SUBSPACES}
        targets[patient] = DistillationTargets(embeddings, output.logits[row].clone(), has_target[row])
    return targets


def shuffle_targets(targets: Mapping[str, DistillationTargets], seed: int) -> dict[str, DistillationTargets]:
    """Give each patient with a target that of another one at random: the control of distillation."""
    patients = [patient for patient, target in targets.items() if bool(target.has_target)]
    order = np.random.default_rng(seed).permutation(len(patients))
    donor = {patients[a]: patients[b] for a, b in zip(order, np.roll(order, 1), strict=True)}
    return {patient: targets[donor.get(patient, patient)] for patient in targets}


def shuffle_expression(cohort: Cohort, seed: int) -> Cohort:
    """Give each patient with a transcriptome that of another one at random: the control of completed genes."""
    with_genes = [i for i, case in enumerate(cohort.cases) if case.has_expression]
    order, cases = np.random.default_rng(seed).permutation(with_genes), list(cohort.cases)
    for taker, donor in zip(order, np.roll(order, 1), strict=True):
        cases[taker] = replace(cases[taker], expression=cohort.cases[donor].expression)
    return replace(cohort, cases=tuple(cases))
