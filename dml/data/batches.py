"""Collate preprocessed patients into padded batches: scaled, masked, with the links between magnifications.

Shape legend: b patients, n tokens (the most of any patient of the batch), d token width.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from dml.core.types import (
    Batch,
    ClassTarget,
    Expression,
    MagnificationTokens,
    Mpp,
    NumberTarget,
    SurvivalTarget,
    Target,
)
from dml.data.batch_sampler import bucketed_batches
from dml.data.patient_reader import Patient
from dml.data.preprocessing import Preprocessor
from dml.data.target_scale import TargetScale


def make_batches(
    patients: Sequence[Patient], preprocessor: Preprocessor, size: int, generator: torch.Generator | None = None
) -> Iterator[Batch]:
    """Yield batches in order, or shuffled by a generator; every patient once, the last batch may be smaller."""
    for part in bucketed_batches(patients, size, generator):
        yield collate(part, preprocessor)


def collate(patients: Sequence[Patient], preprocessor: Preprocessor) -> Batch:
    """Pad and scale some patients into a batch."""
    levels = tuple(_collate_level(patients, preprocessor, index) for index in range(len(preprocessor.mpps)))
    expression = Expression(
        torch.from_numpy(np.stack([p.tumor for p in patients])),
        torch.from_numpy(np.stack([p.tme for p in patients])),
        torch.tensor([p.present for p in patients]),
    )
    covariates = torch.from_numpy(np.stack([p.covariates for p in patients]))
    auxiliary = {
        name: _class_target([p.auxiliary_labels.get(name) for p in patients], classes)
        for name, classes in preprocessor.auxiliary.items()
    }
    ids = tuple(p.patient_id for p in patients)
    genes = {"tumor": expression.tumor, "tme": expression.tme}
    programs = {s: torch.from_numpy(each(genes[s].numpy())) for s, each in preprocessor.programs.items()}
    offsets = (_stack([p.offset for p in patients]), _stack([p.offset_without_genes for p in patients]))
    target = make_target(patients, preprocessor)
    return Batch(ids, levels, expression, covariates, target, auxiliary, *offsets, programs)


def _stack(offsets: Sequence[np.ndarray | None]) -> Tensor | None:
    values = [offset for offset in offsets if offset is not None]
    return torch.from_numpy(np.stack(values)) if values else None


def _collate_level(patients: Sequence[Patient], preprocessor: Preprocessor, index: int) -> MagnificationTokens:
    levels = [patient.levels[index] for patient in patients]
    longest = max(1, *(len(level.tokens) for level in levels))
    mean, deviation = torch.from_numpy(preprocessor.tokens.mean), torch.from_numpy(preprocessor.tokens.deviation)
    tokens = torch.empty(len(levels), longest, len(mean))
    mask = torch.zeros(len(levels), longest, dtype=torch.bool)
    coords = torch.zeros(len(levels), longest, 2)
    parent = torch.full((len(levels), longest), -1, dtype=torch.long)
    for i, level in enumerate(levels):
        n = len(level.tokens)
        # no temporary of a whole bag; converted first, since a difference of two types takes six times as long
        tokens[i, :n].copy_(level.tokens).sub_(mean).div_(deviation)
        tokens[i, n:] = 0.0
        mask[i, :n] = True
        if level.coords_um is not None:
            coords[i, :n] = level.coords_um
        if level.parent is not None:
            parent[i, :n] = level.parent
    has_coords = torch.tensor([level.coords_um is not None for level in levels])
    coarsest = index == len(preprocessor.mpps) - 1
    return MagnificationTokens(
        Mpp(preprocessor.mpps[index]), tokens, mask, coords, has_coords, None if coarsest else parent
    )


def make_target(patients: Sequence[Patient], preprocessor: Preprocessor) -> Target:
    """Return what was observed of some patients, as a model is trained for it."""
    if preprocessor.task.kind == "classification":
        return _class_target([p.label for p in patients], preprocessor.task.classes)
    if preprocessor.task.kind == "regression":
        return _number_target([p.value for p in patients], preprocessor.target_scale)
    known = torch.tensor([p.survival is not None for p in patients])
    days = torch.tensor([0.0 if p.survival is None else p.survival.days for p in patients])
    event = torch.tensor([p.survival is not None and p.survival.event for p in patients])
    bins = torch.bucketize(days, torch.from_numpy(preprocessor.bin_edges), right=True)
    exposure = None
    if preprocessor.baseline is not None:
        passed = preprocessor.baseline.exposure(days.double().numpy(), bins.numpy(), preprocessor.bin_edges.tolist())
        exposure = torch.from_numpy(passed).float()
    return SurvivalTarget(bins, event, days, known, exposure)


def _class_target(labels: Sequence[str | None], classes: Sequence[str]) -> ClassTarget:
    index = [0 if label is None else classes.index(label) for label in labels]
    return ClassTarget(torch.tensor(index), torch.tensor([label is not None for label in labels]))


def _number_target(values: Sequence[float | None], scale: TargetScale) -> NumberTarget:
    numbers = np.array([scale.mean if value is None else value for value in values])
    standardised = torch.from_numpy(scale(numbers).astype(np.float32))
    return NumberTarget(standardised, torch.tensor([value is not None for value in values]))


def concatenate_targets(targets: Sequence[Target]) -> Target:
    """Concatenate the targets of some batches."""
    kind = type(targets[0])
    parts = {name: [getattr(target, name) for target in targets] for name in kind.__slots__}
    joined: dict[str, Any] = {n: None if each[0] is None else torch.cat(each) for n, each in parts.items()}
    return kind(**joined)


def select_patients(target: Target, chosen: Bool[Tensor, "n"]) -> Target:
    """Return the targets of some of the patients."""
    kind = type(target)
    values = {name: getattr(target, name) for name in kind.__slots__}
    selected: dict[str, Any] = {n: None if value is None else value[chosen] for n, value in values.items()}
    return kind(**selected)
