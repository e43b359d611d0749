"""Which patients share a batch: batches of similar bags, cut into micro-batches for gradient accumulation."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import torch

BATCHES_PER_BUCKET = 8
"""Batches whose patients are sorted by bag size together."""


class Sized(Protocol):
    """A patient, of which only the number of tokens matters here."""

    @property
    def size(self) -> int:
        """Tokens at the finest level."""


P = TypeVar("P", bound=Sized)


def bucketed_batches(
    patients: Sequence[P], batch_size: int, generator: torch.Generator | None = None
) -> Iterator[list[P]]:
    """Yield batches of patients, in order or shuffled by a generator.

    Shuffled batches hold bags of similar size, so that a short bag is not padded to the longest of the cohort: patients
    are shuffled, sorted by size within windows of `BATCHES_PER_BUCKET` batches, and the batches are shuffled again.
    """
    order = list(range(len(patients)))
    if generator is not None:
        order = torch.randperm(len(patients), generator=generator).tolist()
        buckets = chunk(order, batch_size * BATCHES_PER_BUCKET)
        order = [i for bucket in buckets for i in sorted(bucket, key=lambda i: patients[i].size)]
    batches = chunk(order, batch_size)
    if generator is not None:
        batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    for batch in batches:
        yield [patients[i] for i in batch]


def micro_batches(patients: Sequence[P], max_tokens: int | None, min_parts: int = 1) -> list[list[P]]:
    """Cut a batch into parts of at most so many padded tokens (None: any number), at least one patient each.

    There are at least `min_parts` parts, or as many as patients: the heaviest are halved until there are.
    """
    parts = [list(patients)] if max_tokens is None else _pack(patients, max_tokens)
    while len(parts) < min(min_parts, len(patients)):
        heaviest = max(range(len(parts)), key=lambda i: (len(parts[i]) > 1, _padded_tokens(parts[i])))
        ordered = sorted(parts[heaviest], key=lambda p: p.size)
        parts[heaviest : heaviest + 1] = [ordered[::2], ordered[1::2]]
    return parts


def _pack(patients: Sequence[P], max_tokens: int) -> list[list[P]]:
    parts: list[list[P]] = []
    for patient in sorted(patients, key=lambda p: p.size):  # the last of a part is its largest
        if parts and (len(parts[-1]) + 1) * patient.size <= max_tokens:
            parts[-1].append(patient)
        else:
            parts.append([patient])
    return parts


def _padded_tokens(patients: Sequence[P]) -> int:
    return len(patients) * max(1, *(patient.size for patient in patients))


def chunk(order: list[int], size: int) -> list[list[int]]:
    """Cut a list into parts of a size; the last may be shorter."""
    return [order[start : start + size] for start in range(0, len(order), size)]
