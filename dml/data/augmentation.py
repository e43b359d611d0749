"""Dropout of inputs in training: patch tokens and whole transcriptomes."""

from dataclasses import replace

import torch

from dml.core.types import Batch, MagnificationTokens
from dml.data.clinical_inputs import ClinicalInputs


def drop_tokens_and_genes(batch: Batch, token_dropout: float, modality_dropout: float) -> Batch:
    """Hide a share of the tokens (never all of a bag) and of the transcriptomes.

    A patient whose transcriptome is hidden has the linear offset of a model that does not read it.
    """
    levels = tuple(_drop_tokens(level, token_dropout) for level in batch.levels)
    present = batch.expression.present
    if modality_dropout:
        present = present & (torch.rand(present.shape, device=present.device) >= modality_dropout)
    offset = batch.offset
    if offset is not None and batch.offset_without_genes is not None:
        offset = torch.where(present[:, None], offset, batch.offset_without_genes)
    return replace(batch, levels=levels, expression=replace(batch.expression, present=present), offset=offset)


def hide_clinical(batch: Batch, inputs: ClinicalInputs | None) -> Batch:
    """Hide clinical inputs at random, where there are any: the last columns of the covariates."""
    if inputs is None:
        return batch
    others, columns = batch.covariates[:, : -inputs.width], batch.covariates[:, -inputs.width :]
    return replace(batch, covariates=torch.cat([others, inputs.hide(columns)], 1))


def _drop_tokens(level: MagnificationTokens, share: float) -> MagnificationTokens:
    if not share:
        return level
    draw = torch.rand(level.mask.shape, device=level.mask.device).masked_fill(~level.mask, -1.0)
    visible = level.mask & ((draw >= share) | (draw == draw.max(1, keepdim=True).values))
    return replace(level, mask=visible)
