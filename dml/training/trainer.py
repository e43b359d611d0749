"""The one training loop.

AdamW, warm-up and cosine in steps, model selection on validation, no test patient in sight.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn
from torch._functorch import config as functorch

from dml.config import params as config
from dml.core.errors import DmlError
from dml.core.types import Batch, MagnificationTokens, ModelOutput, Target
from dml.data.batch_sampler import dealt, passes
from dml.data.batches import Patient, batches, collate
from dml.data.preprocessing import Preprocessor
from dml.models.nn.blocks import TokenProjection
from dml.models.nn.head import SubspaceHead
from dml.training.distributed import SingleProcess
from dml.training.gradients import Coordination, coordinated_backward
from dml.training.losses import task_loss
from dml.training.objectives import Losses, Objective
from dml.training.runtime import keep_freed_memory, to_device

EpochCallback = Callable[[int, float], None]
"""Told the epoch (from 0 for every member) and its validation loss; what it raises ends the training."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How one model is trained."""

    optimisation: config.Optimisation
    seed: int
    coordination: bool = False
    token_dropout: float = 0.0
    modality_dropout: float = 0.0
    on_epoch: EpochCallback | None = None


def fit(
    model: nn.Module,
    objective: Objective,
    training: Sequence[Patient],
    validation: Sequence[Patient],
    preprocessor: Preprocessor,
    recipe: TrainConfig,
    team: SingleProcess,
) -> pd.DataFrame:
    """Train a model in place and leave it at its best validation loss.

    This process learns its passes of every step; all of a team end with the same weights.

    Returns
    -------
    DataFrame
        One row per epoch: epoch, learning_rate, train_task, train_<other losses>, conflicts (share of compared gradient
        pairs), cosine, validation_loss, best.

    Raises
    ------
    DmlError
        If the loss is no longer finite; the message names the epoch.
    """
    settings = recipe.optimisation
    model.to(team.device)
    if settings.compile:
        compiled(model)
    generator = torch.Generator().manual_seed(recipe.seed)
    keep_freed_memory()
    weight_decay, rate_ = settings.weight_decay, settings.learning_rate
    optimiser = torch.optim.AdamW(model.parameters(), rate_, weight_decay=weight_decay, fused=True)
    steps = math.ceil(len(training) / settings.batch_size) * settings.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: lr_factor(step, steps, settings.warmup_fraction)
    )
    history: list[dict[str, float]] = []
    best, best_state, waited = math.inf, copy.deepcopy(model.state_dict()), 0
    for epoch in range(settings.epochs):
        row = {"epoch": float(epoch), "learning_rate": float(schedule.get_last_lr()[0])}
        row |= _epoch(
            model,
            objective,
            dealt(training, settings.batch_size, generator),
            preprocessor,
            recipe,
            optimiser,
            schedule,
            team,
        )
        row["validation_loss"] = team.agreed(validation_loss(model, validation, preprocessor, settings))
        if not math.isfinite(row["validation_loss"]):
            raise DmlError(f"training diverged in epoch {epoch}: lower optimisation.learning_rate in params.yaml")
        improved = row["validation_loss"] < best
        waited = 0 if improved else waited + 1
        if improved:
            best, best_state = row["validation_loss"], copy.deepcopy(model.state_dict())
        history.append(row | {"best": float(improved)})
        if recipe.on_epoch is not None:
            recipe.on_epoch(epoch, row["validation_loss"])
        if waited >= settings.patience:
            break
    model.load_state_dict(best_state)
    model.eval()
    return pd.DataFrame(history)


def compiled(model: nn.Module) -> None:
    """Compile in place what passes over every tissue token, for bags of any size.

    That is the projection; what follows handles few queries. Coordination asks for gradients through each subspace's
    token, so the graph behind the projection must stay open, and a backward pass must keep what it has read.
    """
    functorch.donated_buffer = False
    for module in model.modules():
        if isinstance(module, TokenProjection):
            module.compile(dynamic=True)


def lr_factor(step: int, steps: int, warmup: float) -> float:
    """Factor on the learning rate: linear warm-up, then cosine that reaches zero after the last step."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))


def validation_loss(
    model: nn.Module, patients: Sequence[Patient], preprocessor: Preprocessor, settings: config.Optimisation
) -> float:
    """Task loss over all known patients at once, without class weights or dropout."""
    model.eval()
    device = _place(model)
    logits, targets = [], []
    with torch.inference_mode():
        for batch in batches(patients, preprocessor, settings.batch_size):
            logits.append(model(to_device(batch, device)).logits.cpu())
            targets.append(batch.target)
        whole = stacked(targets)
        if not whole.known.any():
            raise DmlError("no validation patient has a target: raise split.validation_share or use fewer folds")
        return float(task_loss(torch.cat(logits), whole, cox=settings.cox_loss_weight))


def _epoch(
    model: nn.Module,
    objective: Objective,
    data: Iterator[list[Patient]],
    preprocessor: Preprocessor,
    recipe: TrainConfig,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    team: SingleProcess,
) -> dict[str, float]:
    model.train()
    settings, parameters = recipe.optimisation, list(model.parameters())
    sums: dict[str, Tensor] = {}
    count = 0
    for patients in data:
        optimiser.zero_grad(set_to_none=True)
        own = passes(patients, settings.max_tokens, team.size)[team.rank :: team.size]
        for part in own:  # their gradients, and those of the team, add up to the step's
            share = len(part) / len(patients)
            for name, value in _pass(model, objective, collate(part, preprocessor), recipe, share).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + share * value.detach()
        team.add_up(parameters)
        nn.utils.clip_grad_norm_(parameters, settings.grad_clip_norm)
        optimiser.step()
        schedule.step()
        count += 1
    return team.summed({name: float(value) / count for name, value in sums.items()})


def _pass(model: nn.Module, objective: Objective, batch: Batch, recipe: TrainConfig, share: float) -> dict[str, Tensor]:
    """Add the gradients of a share of a step's patients."""
    device, precision = _place(model), recipe.optimisation.precision
    coordinated = recipe.coordination and bool(batch.target.known.any())  # asked here: a GPU would have to wait
    hidden = drop_tokens_and_genes(to_device(batch, device), recipe)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        branches: ModelOutput = model(hidden)
        losses = objective(hidden, branches)
    coordination = _backward(model, branches, losses.scaled(share), hidden, coordinated)
    return _figures(losses, coordination)


def _backward(
    model: nn.Module, branches: ModelOutput, losses: Losses, batch: Batch, coordinated: bool
) -> Coordination | None:
    others, head = list(losses.others.values()), model.head
    if not (coordinated and isinstance(head, SubspaceHead)):
        torch.stack([losses.task, *others]).sum().backward()  # type: ignore[no-untyped-call]
        return None
    result = coordinated_backward(losses.task, branches, head, list(model.parameters()), batch.target)
    if others:
        torch.stack(others).sum().backward()  # type: ignore[no-untyped-call]
    return result


def _figures(losses: Losses, coordination: Coordination | None) -> dict[str, Tensor]:
    figures = {"train_task": losses.task, **{f"train_{name}": value for name, value in losses.others.items()}}
    if coordination is not None and coordination.compared:
        figures["conflicts"] = coordination.conflicts / coordination.compared
        figures["cosine"] = coordination.cosine_sum / coordination.compared
    return figures


def drop_tokens_and_genes(batch: Batch, recipe: TrainConfig) -> Batch:
    """Hide a share of the tokens (never all of a bag) and of the transcriptomes."""
    levels = tuple(_thinned(level, recipe.token_dropout) for level in batch.levels)
    present = batch.expression.present
    if recipe.modality_dropout:
        present = present & (torch.rand(present.shape, device=present.device) >= recipe.modality_dropout)
    start = batch.offset
    if start is not None and batch.offset_without_genes is not None:
        start = torch.where(present[:, None], start, batch.offset_without_genes)
    return replace(batch, levels=levels, expression=replace(batch.expression, present=present), offset=start)


def _thinned(level: MagnificationTokens, share: float) -> MagnificationTokens:
    if not share:
        return level
    draw = torch.rand(level.mask.shape, device=level.mask.device).masked_fill(~level.mask, -1.0)
    kept = level.mask & ((draw >= share) | (draw == draw.max(1, keepdim=True).values))
    return replace(level, mask=kept)


def stacked(targets: Sequence[Target]) -> Target:
    """Join the targets of some batches into one."""
    kind = type(targets[0])
    return kind(*(torch.cat([getattr(target, name) for target in targets]) for name in kind.__slots__))


def _place(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
