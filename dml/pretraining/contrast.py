"""Symmetric InfoNCE between the slides and the genes of patients, with a queue of past pairs.

    L = 1/2 (CE(t U [V; V_past]') + CE(t V [U; U_past]')),   diagonal = the pair of the same patient

A past pair of the same patient, or a second version of it in the batch, is never among the negatives.

Sources: van den Oord et al., arXiv 1807.03748; slides with expression: TANGLE (Jaume et al., CVPR 2024); a queue: He et
al., CVPR 2020, here without a momentum network, because a slide's token is cheap and the queue is a few batches long.

Shape legend: b patients, q past pairs, d width.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from dml.pretraining.network import PairEncoding


class PairQueue:
    """The latest pairs that were encoded, without gradient: at most `size` of them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.slide: dict[str, Tensor] = {}
        self.genes: dict[str, Tensor] = {}
        self.numbers = torch.zeros(0, dtype=torch.long)

    def push(self, encoding: PairEncoding, numbers: Int[Tensor, "b"]) -> None:
        """Add pairs; the oldest go."""
        if not self.size:
            return
        self.numbers = torch.cat([self.numbers.to(numbers), numbers])[-self.size :]
        self.slide = self._append(self.slide, encoding.slide)
        self.genes = self._append(self.genes, encoding.genes)

    def _append(self, past: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {s: torch.cat([past.get(s, each[:0]), each]).detach()[-self.size :] for s, each in new.items()}


def info_nce(
    queries: Float[Tensor, "b d"],
    candidates: Float[Tensor, "c d"],
    numbers: Int[Tensor, "b"],
    candidate_numbers: Int[Tensor, "c"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return the cross entropy of finding candidate i for query i; others of the same patient are no candidates."""
    at = torch.arange(len(queries), device=queries.device)
    same = numbers[:, None] == candidate_numbers[None]
    same[at, at] = False
    logits = (scale * queries @ candidates.T).masked_fill(same, -torch.inf)
    return functional.cross_entropy(logits, at)


def contrast_loss(
    encoding: PairEncoding, numbers: Int[Tensor, "b"], queue: PairQueue, scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return the symmetric loss, mean over subspaces."""
    candidate_numbers = torch.cat([numbers, queue.numbers.to(numbers)])
    losses = []
    for s, slide in encoding.slide.items():
        genes = encoding.genes[s]
        for queries, others, past in ((slide, genes, queue.genes), (genes, slide, queue.slide)):
            candidates = torch.cat([others, past.get(s, others[:0])])
            losses.append(info_nce(queries, candidates, numbers, candidate_numbers, scale))
    return torch.stack(losses).mean()
