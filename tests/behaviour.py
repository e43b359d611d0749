"""Transformations of a batch that must not matter, and comparison of outputs."""

from dataclasses import replace

import torch

from dml.core.types import Batch, MagnificationTokens, ModelOutput


def permuted(level: MagnificationTokens, order: torch.Tensor) -> MagnificationTokens:
    parent = None if level.parent is None else level.parent[:, order]
    return replace(
        level,
        tokens=level.tokens[:, order],
        mask=level.mask[:, order],
        coords_um=level.coords_um[:, order],
        parent=parent,
    )


def padded(level: MagnificationTokens, extra: int) -> MagnificationTokens:
    b = len(level.tokens)
    noise = torch.randn(b, extra, level.tokens.shape[2]) * 50
    return replace(
        level,
        tokens=torch.cat([level.tokens, noise], 1),
        mask=torch.cat([level.mask, torch.zeros(b, extra, dtype=torch.bool)], 1),
        coords_um=torch.cat([level.coords_um, torch.randn(b, extra, 2) * 1e4], 1),
        parent=None if level.parent is None else torch.cat([level.parent, torch.full((b, extra), -1)], 1),
    )


def same(a: ModelOutput, b: ModelOutput) -> None:
    for left, right in ((a.logits, b.logits), *((a[s], b[s]) for s in a.embeddings)):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


def row(data: Batch, i: int) -> Batch:
    at = slice(i, i + 1)
    levels = tuple(
        MagnificationTokens(
            x.mpp,
            x.tokens[at],
            x.mask[at],
            x.coords_um[at],
            x.has_coords[at],
            None if x.parent is None else x.parent[at],
        )
        for x in data.levels
    )
    genes = replace(
        data.expression,
        tumor=data.expression.tumor[at],
        tme=data.expression.tme[at],
        present=data.expression.present[at],
    )
    parts = {name: getattr(data.target, name) for name in data.target.__slots__}
    target = type(data.target)(**{name: None if part is None else part[at] for name, part in parts.items()})
    return Batch(data.patient_ids[at], levels, genes, data.covariates[at], target)
