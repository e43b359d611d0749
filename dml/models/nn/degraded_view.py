"""A damaged view of a batch, for self-distillation: tiles lost, transcriptomes hidden, noise in the genes.

Each patient loses a share of the tiles that is drawn from 0 to `MOST_TILES`, and one patient in two the transcriptome;
genes that stay have Gaussian noise. A patient whose transcriptome is hidden has the linear offset of a model that does
not read it.
"""

from dataclasses import replace

import torch
from torch import Tensor

from dml.core.types import SUBSPACES, Batch, Expression, MagnificationTokens, ModelOutput

MOST_TILES, HIDDEN, NOISE = 0.9, 0.5, 0.5
"""Largest share of tiles lost, share of transcriptomes hidden, deviation of the noise in training deviations."""


def degrade(batch: Batch) -> Batch:
    """Return a damaged view of a batch; no bag loses its last tile."""
    genes = batch.expression
    share = torch.rand(len(genes.present), 1, device=genes.present.device) * MOST_TILES
    present = genes.present & (torch.rand(genes.present.shape, device=genes.present.device) >= HIDDEN)
    offset = batch.offset
    if offset is not None and batch.offset_without_genes is not None:
        offset = torch.where(present[:, None], offset, batch.offset_without_genes)
    tumor, tme = (x + NOISE * torch.randn_like(x) for x in (genes.tumor, genes.tme))
    levels = tuple(_lose_tiles(level, share) for level in batch.levels)
    return replace(batch, levels=levels, expression=Expression(tumor, tme, present), offset=offset)


def distance(full: ModelOutput, part: ModelOutput) -> Tensor:
    """Return the mean squared distance of the subspaces' embeddings; the whole view has no gradient from it."""
    return torch.stack([(full[s].detach() - part[s]).square().mean() for s in SUBSPACES]).mean()


def _lose_tiles(level: MagnificationTokens, share: Tensor) -> MagnificationTokens:
    draw = torch.rand(level.mask.shape, device=level.mask.device).masked_fill(~level.mask, -1.0)
    return replace(level, mask=level.mask & ((draw >= share) | (draw == draw.amax(1, keepdim=True))))
