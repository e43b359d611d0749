"""Which patients are learnt from together: batches of similar bags, and the passes that a batch is cut into."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import torch

BUCKET = 8
"""Batches whose patients are sorted by bag size together."""


class Sized(Protocol):
    """A patient, of whom only the number of tokens matters here."""

    @property
    def size(self) -> int:
        """Tokens at the finest level."""


P = TypeVar("P", bound=Sized)


def dealt(patients: Sequence[P], size: int, generator: torch.Generator | None = None) -> Iterator[list[P]]:
    """Deal patients into batches, in order or shuffled by a generator.

    Shuffled batches hold bags of similar size, so that a short bag is not padded to the longest of the cohort: patients
    are shuffled, sorted by size within windows of `BUCKET` batches, and the batches are shuffled again.
    """
    order = list(range(len(patients)))
    if generator is not None:
        order = torch.randperm(len(patients), generator=generator).tolist()
        windows = chunks(order, size * BUCKET)
        order = [i for window in windows for i in sorted(window, key=lambda i: patients[i].size)]
    parts = chunks(order, size)
    if generator is not None:
        parts = [parts[i] for i in torch.randperm(len(parts), generator=generator).tolist()]
    for part in parts:
        yield [patients[i] for i in part]


def passes(patients: Sequence[P], most_tokens: int | None, fewest: int = 1) -> list[list[P]]:
    """Cut a batch into passes of at most so many padded tokens, a patient at least; None: as long as they like.

    There are at least `fewest` passes, or as many as patients: the heaviest are halved until there are.
    """
    found = [list(patients)] if most_tokens is None else _light(patients, most_tokens)
    while len(found) < min(fewest, len(patients)):
        heaviest = max(range(len(found)), key=lambda i: (len(found[i]) > 1, _padded(found[i])))
        ordered = sorted(found[heaviest], key=lambda p: p.size)
        found[heaviest : heaviest + 1] = [ordered[::2], ordered[1::2]]
    return found


def _light(patients: Sequence[P], most_tokens: int) -> list[list[P]]:
    found: list[list[P]] = []
    for patient in sorted(patients, key=lambda p: p.size):  # the last of a pass is its largest
        if found and (len(found[-1]) + 1) * patient.size <= most_tokens:
            found[-1].append(patient)
        else:
            found.append([patient])
    return found


def _padded(patients: Sequence[P]) -> int:
    return len(patients) * max(1, *(patient.size for patient in patients))


def chunks(order: list[int], size: int) -> list[list[int]]:
    """Cut a list into parts of a size; the last may be shorter."""
    return [order[start : start + size] for start in range(0, len(order), size)]
