"""Synthetic batches, models and training steps of the sizes that the benchmarks compare."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, Expression, MagnificationTokens, ModelOutput, Mpp, SurvivalTarget
from dml.data.dims import ModelDims
from dml.models.student import Student
from dml.models.teacher import Teacher
from dml.training.gradients import coordinated_backward
from dml.training.loss_terms.consistency import inter_magnification_consistency
from dml.training.losses import task_loss

TOKEN_WIDTH, TUMOR_GENES, TME_GENES, BINS = 1024, 59, 361, 4
TILE_UM = 128.0


def make_dims(levels: int = 2, token_width: int = TOKEN_WIDTH) -> ModelDims:
    """Return the dimensions of a survival model with two gene groups."""
    return ModelDims(
        kind="survival",
        token_width=token_width,
        levels=levels,
        tumor_genes=TUMOR_GENES,
        tme_genes=TME_GENES,
        covariates=0,
        outputs=BINS,
    )


def make_batch(sizes: Sequence[int], levels: int = 2, token_width: int = TOKEN_WIDTH, has_coords: bool = True) -> Batch:
    """Return random bags of the given sizes at each magnification; a coarse tile covers 2 x 2 fine ones."""
    b, n = len(sizes), max(sizes)
    mask = torch.arange(n)[None] < torch.tensor(sizes)[:, None]
    magnifications = []
    for index in range(levels):
        coords = _square_grid(n, TILE_UM * 2**index).expand(b, -1, -1)
        parent = torch.where(mask, torch.arange(n) // 4, -1) if index < levels - 1 else None
        tokens = torch.randn(b, n, token_width)
        magnifications.append(
            MagnificationTokens(Mpp(0.5 * 2**index), tokens, mask, coords, torch.full((b,), has_coords), parent)
        )
    genes = Expression(torch.randn(b, TUMOR_GENES), torch.randn(b, TME_GENES), torch.ones(b, dtype=torch.bool))
    is_known = torch.ones(b, dtype=torch.bool)
    target = SurvivalTarget(torch.arange(b) % BINS, torch.arange(b) % 2 == 0, torch.full((b,), 500.0), is_known)
    return Batch(tuple(f"P{i}" for i in range(b)), tuple(magnifications), genes, torch.zeros(b, 0), target)


def _square_grid(tiles: int, side_um: float) -> Tensor:
    width = max(1, round(tiles**0.5))
    index = torch.arange(tiles)
    return torch.stack([index % width, index // width], -1).float()[None] * side_um


def make_teacher(dims: ModelDims | None = None) -> Teacher:
    """Return a teacher with the default parameters."""
    return Teacher(dims or make_dims(), config.Model(), config.Teacher())


def make_student(dims: ModelDims | None = None) -> Student:
    """Return a student with the default parameters."""
    return Student(dims or make_dims(), config.Model(), "subspace_queries")


def make_teacher_step(model: Teacher, batch: Batch) -> Callable[[], None]:
    """Return a full training step: forward, task and consistency loss, coordination, clipping, AdamW."""
    optimiser = _make_optimiser(model)
    model.train()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        output = model(batch)
        loss = task_loss(output.logits, batch.target)
        coordinated_backward(loss, output, model.head, list(model.parameters()), batch.target)
        if len(batch.levels) > 1:
            (0.1 * _consistency(output, batch)).backward()
        _clip_and_step(model, optimiser)

    return step


def make_training_step(
    model: torch.nn.Module, batch: Batch, teacher_output: ModelOutput | None = None
) -> Callable[[], None]:
    """Return a training step on the task loss, and on the distillation losses where teacher outputs are given."""
    optimiser = _make_optimiser(model)
    model.train()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        output = model(batch)
        loss = task_loss(output.logits, batch.target)
        if teacher_output is not None:
            loss = loss + sum((output[s] - teacher_output[s]).square().mean() for s in SUBSPACES)
            loss = loss + (torch.sigmoid(output.logits) - torch.sigmoid(teacher_output.logits)).square().mean()
        loss.backward()
        _clip_and_step(model, optimiser)

    return step


def _consistency(output: ModelOutput, batch: Batch) -> Tensor:
    terms = [inter_magnification_consistency(*output.attention[s], batch.levels[0]) for s in SUBSPACES]
    return torch.stack(terms).mean()


def _make_optimiser(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), 3e-4, fused=True)


def _clip_and_step(model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
