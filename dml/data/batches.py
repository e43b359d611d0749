"""From patients to padded batches: scaled, masked, with the physical links between magnifications.

Shape legend: b patients, n tokens (the most of any patient of the batch), d token width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dml.core.types import (
    Bag,
    Batch,
    Case,
    ClassTarget,
    Cohort,
    Expression,
    MagnificationTokens,
    Mpp,
    Survival,
    SurvivalTarget,
    Target,
)
from dml.data.batch_sampler import dealt
from dml.data.preprocessing import Preprocessor, covariates_of, gene_index
from dml.training.linear_offset import LinearOffset, Source

GAP_UM = 5000.0
"""Slides of one patient are laid side by side with this gap, so that tissue of different slides is never near."""


@dataclass(frozen=True, slots=True)
class PatientTokens:
    """One patient at one resolution: raw tokens (scaled when a batch is made), placed positions, parents."""

    tokens: Tensor
    coords_um: Tensor | None
    parent: Tensor | None


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient read by a preprocessor, ready to be batched."""

    patient_id: str
    levels: tuple[PatientTokens, ...]
    tumor: np.ndarray
    tme: np.ndarray
    present: bool
    covariates: np.ndarray
    survival: Survival | None
    label: str | None
    others: Mapping[str, str]
    start: np.ndarray | None = None
    offset_without_genes: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Tokens at the finest level."""
        return len(self.levels[0].tokens)


class PatientReader:
    """Reads the patients of one cohort as a preprocessor wants them.

    With a linear start, `parts` says which inner part learning patients are of: theirs has not seen their outcome.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        cohort: Cohort,
        start: LinearOffset | None = None,
        parts: Mapping[str, int] | None = None,
    ) -> None:
        self.preprocessor, self._start, self._parts = preprocessor, start, parts or {}
        self._tumor = gene_index(cohort.genes, preprocessor.tumor_genes)
        self._tme = gene_index(cohort.genes, preprocessor.tme_genes)

    def __call__(self, case: Case) -> Patient:
        """Read one patient; a gene the cohort does not measure takes the training mean."""
        prep = self.preprocessor
        values = case.expression
        return Patient(
            patient_id=case.patient_id,
            levels=self._levels(case),
            tumor=prep.tumor(_picked(values, self._tumor)),
            tme=prep.tme(_picked(values, self._tme)),
            present=values is not None,
            covariates=_with_missing(prep, case),
            survival=case.survival,
            label=case.labels.get(prep.task),
            others={name: case.labels[name] for name in prep.auxiliary if name in case.labels},
            start=self._started(case),
            offset_without_genes=self._started(replace(case, expression=None)),
        )

    def rows(self, cases: Sequence[Case]) -> dict[Source, np.ndarray]:
        """Return what a linear model sees: mean tokens of all resolutions, and raw genes; NaN where there is none."""
        genes = [np.concatenate([_picked(c.expression, at) for at in (self._tumor, self._tme)]) for c in cases]
        return {"slide": np.array([self._pooled(case) for case in cases]), "genes": np.array(genes)}

    def _pooled(self, case: Case) -> np.ndarray:
        width = len(self.preprocessor.tokens.mean)
        bags = [case.bags.get(Mpp(mpp)) for mpp in self.preprocessor.mpps]
        means = [np.full(width, np.nan) if b is None or not len(b) else b.tokens.double().mean(0).numpy() for b in bags]
        return np.concatenate(means)

    def _started(self, case: Case) -> np.ndarray | None:
        if self._start is None:
            return None
        started: np.ndarray = self._start(self.rows([case]), [self._parts.get(case.patient_id)])[0]
        return started

    def _levels(self, case: Case) -> tuple[PatientTokens, ...]:
        bags = [case.bags.get(Mpp(mpp)) for mpp in self.preprocessor.mpps]
        offsets = side_by_side([bag for bag in bags if bag is not None])
        placed = [None if bag is None else _placed(bag, offsets) for bag in bags]
        parents = [
            None if fine is None or coarse is None else parents_of(fine, coarse)
            for fine, coarse in zip(bags, [*bags[1:], None], strict=True)
        ]
        width = len(self.preprocessor.tokens.mean)
        return tuple(
            PatientTokens(torch.zeros(0, width) if bag is None else bag.tokens, coords, parent)
            for bag, coords, parent in zip(bags, placed, parents, strict=True)
        )


def side_by_side(bags: Sequence[Bag]) -> dict[int, float]:
    """Where each slide starts (microns to the right) when a patient's slides are laid in a row."""
    ends: dict[int, float] = {}
    for bag in bags:
        if bag.coords_um is not None:
            for slide in set(bag.slide.tolist()):
                end = float(bag.coords_um[bag.slide == slide, 0].max()) + bag.tile_um / 2
                ends[slide] = max(ends.get(slide, 0.0), end)
    offsets, at = {}, 0.0
    for slide in sorted(ends):
        offsets[slide] = at
        at += ends[slide] + GAP_UM
    return offsets


def _placed(bag: Bag, offsets: Mapping[int, float]) -> Tensor | None:
    if bag.coords_um is None:
        return None
    shift = torch.zeros_like(bag.coords_um)
    for slide, offset in offsets.items():
        shift[bag.slide == slide, 0] = offset
    return bag.coords_um + shift


def parents_of(fine: Bag, coarse: Bag) -> Tensor | None:
    """Index of the coarse tile that contains the centre of each fine tile on the same slide, -1 where there is none."""
    if fine.coords_um is None or coarse.coords_um is None:
        return None
    parent = torch.full((len(fine),), -1, dtype=torch.long)
    for slide in set(fine.slide.tolist()):
        inside = torch.nonzero(coarse.slide == slide)[:, 0]
        ours = torch.nonzero(fine.slide == slide)[:, 0]
        if len(inside):
            centres = coarse.coords_um[inside]
            corner = centres.min(0).values - coarse.tile_um / 2
            cells = {cell: int(i) for cell, i in zip(_cells(centres - corner, coarse.tile_um), inside, strict=True)}
            found = [cells.get(cell, -1) for cell in _cells(fine.coords_um[ours] - corner, coarse.tile_um)]
            parent[ours] = torch.tensor(found)
    return parent


def _cells(positions: Tensor, side: float) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in torch.floor(positions / side).tolist()]


def _picked(values: np.ndarray | None, index: np.ndarray) -> np.ndarray:
    if values is None:
        return np.full(len(index), np.nan, dtype=np.float32)
    return np.where(index >= 0, values[np.maximum(index, 0)], np.nan).astype(np.float32)


def _with_missing(preprocessor: Preprocessor, case: Case) -> np.ndarray:
    raw = np.array(covariates_of(case, preprocessor.covariate_names), dtype=np.float32)
    return np.concatenate([preprocessor.covariates(raw), ~np.isfinite(raw)]).astype(np.float32)


def collate(patients: Sequence[Patient], preprocessor: Preprocessor) -> Batch:
    """Pad and scale some patients into a batch."""
    levels = tuple(_level(patients, preprocessor, index) for index in range(len(preprocessor.mpps)))
    expression = Expression(
        torch.from_numpy(np.stack([p.tumor for p in patients])),
        torch.from_numpy(np.stack([p.tme for p in patients])),
        torch.tensor([p.present for p in patients]),
    )
    covariates = torch.from_numpy(np.stack([p.covariates for p in patients]))
    auxiliary = {
        name: _class_target([p.others.get(name) for p in patients], classes)
        for name, classes in preprocessor.auxiliary.items()
    }
    ids = tuple(p.patient_id for p in patients)
    starts = (_joined([p.start for p in patients]), _joined([p.offset_without_genes for p in patients]))
    return Batch(ids, levels, expression, covariates, _target(patients, preprocessor), auxiliary, *starts)


def _joined(starts: Sequence[np.ndarray | None]) -> Tensor | None:
    known = [start for start in starts if start is not None]
    return torch.from_numpy(np.stack(known)) if known else None


def _level(patients: Sequence[Patient], preprocessor: Preprocessor, index: int) -> MagnificationTokens:
    at = [patient.levels[index] for patient in patients]
    longest = max(1, *(len(level.tokens) for level in at))
    mean, deviation = torch.from_numpy(preprocessor.tokens.mean), torch.from_numpy(preprocessor.tokens.deviation)
    tokens = torch.empty(len(at), longest, len(mean))
    mask = torch.zeros(len(at), longest, dtype=torch.bool)
    coords = torch.zeros(len(at), longest, 2)
    parent = torch.full((len(at), longest), -1, dtype=torch.long)
    for i, level in enumerate(at):
        n = len(level.tokens)
        torch.sub(level.tokens, mean, out=tokens[i, :n]).div_(deviation)  # no temporary of a whole bag
        tokens[i, n:] = 0.0
        mask[i, :n] = True
        if level.coords_um is not None:
            coords[i, :n] = level.coords_um
        if level.parent is not None:
            parent[i, :n] = level.parent
    has_coords = torch.tensor([level.coords_um is not None for level in at])
    coarsest = index == len(preprocessor.mpps) - 1
    return MagnificationTokens(
        Mpp(preprocessor.mpps[index]), tokens, mask, coords, has_coords, None if coarsest else parent
    )


def _target(patients: Sequence[Patient], preprocessor: Preprocessor) -> Target:
    if preprocessor.kind == "classification":
        return _class_target([p.label for p in patients], preprocessor.classes)
    known = torch.tensor([p.survival is not None for p in patients])
    days = torch.tensor([0.0 if p.survival is None else p.survival.days for p in patients])
    event = torch.tensor([p.survival is not None and p.survival.event for p in patients])
    bins = torch.bucketize(days, torch.from_numpy(preprocessor.bin_edges), right=True)
    return SurvivalTarget(bins, event, days, known)


def _class_target(labels: Sequence[str | None], classes: Sequence[str]) -> ClassTarget:
    index = [0 if label is None else classes.index(label) for label in labels]
    return ClassTarget(torch.tensor(index), torch.tensor([label is not None for label in labels]))


def batches(
    patients: Sequence[Patient], preprocessor: Preprocessor, size: int, generator: torch.Generator | None = None
) -> Iterator[Batch]:
    """Yield batches in order, or shuffled by a generator; every patient once, the last batch may be smaller."""
    for part in dealt(patients, size, generator):
        yield collate(part, preprocessor)
