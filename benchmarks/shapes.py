"""Batches, models and training steps of the shapes that DESIGN.md names."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, Expression, MagnificationTokens, ModelOutput, Mpp, SurvivalTarget
from dml.data.dims import ModelDims
from dml.models.student import Student
from dml.models.teacher import Teacher
from dml.training.gradients import coordinated_backward
from dml.training.losses import inter_magnification_consistency, task_loss

TOKEN_WIDTH, TUMOR_GENES, TME_GENES, BINS = 1024, 59, 361, 4
TILE_UM = 128.0


def data_shape(levels: int = 2, token_width: int = TOKEN_WIDTH) -> ModelDims:
    """Widths of what goes in and out."""
    return ModelDims(
        kind="survival",
        token_width=token_width,
        levels=levels,
        tumor_genes=TUMOR_GENES,
        tme_genes=TME_GENES,
        covariates=0,
        outputs=BINS,
    )


def made_batch(sizes: Sequence[int], levels: int = 2, token_width: int = TOKEN_WIDTH, has_coords: bool = True) -> Batch:
    """Bags of the sizes at each magnification, on squares of tissue; a coarse tile covers 2 x 2 fine ones."""
    b, n = len(sizes), max(sizes)
    mask = torch.arange(n)[None] < torch.tensor(sizes)[:, None]
    made = []
    for index in range(levels):
        coords = _square(n, TILE_UM * 2**index).expand(b, -1, -1)
        parent = torch.where(mask, torch.arange(n) // 4, -1) if index < levels - 1 else None
        tokens = torch.randn(b, n, token_width)
        made.append(
            MagnificationTokens(Mpp(0.5 * 2**index), tokens, mask, coords, torch.full((b,), has_coords), parent)
        )
    genes = Expression(torch.randn(b, TUMOR_GENES), torch.randn(b, TME_GENES), torch.ones(b, dtype=torch.bool))
    known = torch.ones(b, dtype=torch.bool)
    target = SurvivalTarget(torch.arange(b) % BINS, torch.arange(b) % 2 == 0, torch.full((b,), 500.0), known)
    return Batch(tuple(f"P{i}" for i in range(b)), tuple(made), genes, torch.zeros(b, 0), target)


def _square(tiles: int, side_um: float) -> Tensor:
    width = max(1, round(tiles**0.5))
    at = torch.arange(tiles)
    return torch.stack([at % width, at // width], -1).float()[None] * side_um


def teacher(shape: ModelDims | None = None) -> Teacher:
    """Make the teacher of params.yaml's defaults."""
    return Teacher(shape or data_shape(), config.Model(), config.Teacher())


def student(shape: ModelDims | None = None) -> Student:
    """Make the student of params.yaml's defaults."""
    return Student(shape or data_shape(), config.Model(), "subspace_queries")


def teacher_step(model: Teacher, batch: Batch) -> Callable[[], None]:
    """One full training step: forward, task and consistency, coordination, clipping, AdamW."""
    optimiser = _optimiser(model)
    model.train()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        said = model(batch)
        loss = task_loss(said.logits, batch.target)
        coordinated_backward(loss, said, model.head, list(model.parameters()), batch.target)
        if len(batch.levels) > 1:
            (0.1 * _consistency(said, batch)).backward()
        _finish(model, optimiser)

    return step


def plain_step(model: torch.nn.Module, batch: Batch, lesson: ModelOutput | None = None) -> Callable[[], None]:
    """One training step for the task, and for what a teacher said where there is a lesson."""
    optimiser = _optimiser(model)
    model.train()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        said = model(batch)
        loss = task_loss(said.logits, batch.target)
        if lesson is not None:
            loss = loss + sum((said.of(s) - lesson.of(s)).square().mean() for s in SUBSPACES)
            loss = loss + (torch.sigmoid(said.logits) - torch.sigmoid(lesson.logits)).square().mean()
        loss.backward()
        _finish(model, optimiser)

    return step


def _consistency(said: ModelOutput, batch: Batch) -> Tensor:
    terms = [inter_magnification_consistency(*said.attention[s], batch.levels[0]) for s in SUBSPACES]
    return torch.stack(terms).mean()


def _optimiser(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), 3e-4, fused=True)


def _finish(model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
