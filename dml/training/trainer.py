"""The training loop of one model: AdamW, warm-up and cosine schedule, selection by validation loss.

A step, as `Trainer._train_step` writes it: zero the gradients; for each micro-batch hide tokens and genes, run the
model, compute the losses, and accumulate gradients (coordinated where the model asks for it); sum the gradients of all
processes; clip; update the weights and the learning rate.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.errors import DmlError
from dml.core.types import Batch, ModelOutput, Target
from dml.data.augmentation import drop_tokens_and_genes, hide_clinical
from dml.data.batch_sampler import bucketed_batches, micro_batches
from dml.data.batches import collate, concatenate_targets, make_batches
from dml.data.patient_reader import Patient
from dml.data.preprocessing import Preprocessor
from dml.models.multi_scale import BranchModel
from dml.training.distributed import SingleProcess
from dml.training.gradients import Coordination, coordinated_backward
from dml.training.losses import task_loss
from dml.training.objectives import Losses, Objective
from dml.training.runtime import compile_projection, keep_freed_memory, to_device

EpochCallback = Callable[[int, float], None]
"""Called with the epoch (from 0 for every member) and its validation loss; what it raises ends the training."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of one training.

    Attributes
    ----------
    optimisation : config.Optimisation
        Optimiser, schedule, batches and hardware.
    seed : int
        Of the order of patients.
    gradient_coordination : bool
        Whether the gradients of the two subspaces are coordinated.
    token_dropout, modality_dropout : float
        Shares of tokens and of transcriptomes hidden in each step.
    on_epoch : callable, optional
        Called after each epoch.
    """

    optimisation: config.Optimisation
    seed: int = 0
    gradient_coordination: bool = False
    token_dropout: float = 0.0
    modality_dropout: float = 0.0
    on_epoch: EpochCallback | None = None


class Trainer:
    """Trains one model in place.

    Parameters
    ----------
    model : Module
        Maps a Batch to a ModelOutput.
    objective : callable
        From a batch and the model's output to losses.
    preprocessor : Preprocessor
        Scales batches.
    config : TrainConfig
        Settings.
    process : SingleProcess
        This process, or one of several that share every step; all end with the same weights.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        preprocessor: Preprocessor,
        config: TrainConfig,
        process: SingleProcess,
    ) -> None:
        self.model, self.objective, self.preprocessor = model.to(process.device), objective, preprocessor
        self.config, self.settings, self.process = config, config.optimisation, process
        if self.settings.compile:
            compile_projection(model)
        self.parameters = list(model.parameters())
        self.optimiser = torch.optim.AdamW(
            self.parameters, self.settings.learning_rate, weight_decay=self.settings.weight_decay, fused=True
        )

    def fit(self, training: Sequence[Patient], validation: Sequence[Patient]) -> pd.DataFrame:
        """Train the model and leave it at its best validation loss; `validation_logits` (e n k) has every epoch.

        Returns
        -------
        DataFrame
            One row per epoch: epoch, learning_rate, train_task, train_<loss term>, conflicts (share of compared
            gradient pairs), cosine, validation_loss, best.

        Raises
        ------
        DmlError
            If the loss is no longer finite; the message names the epoch.
        """
        keep_freed_memory()
        generator = torch.Generator().manual_seed(self.config.seed)
        self.plan = self.settings.schedule(len(training))
        steps = math.ceil(len(training) / self.plan.batch_size) * self.plan.epochs
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: lr_factor(step, steps, self.settings.warmup_fraction)
        )
        history: list[dict[str, float]] = []
        outputs: list[Tensor] = []
        best, best_state, waited = math.inf, copy.deepcopy(self.model.state_dict()), 0
        for epoch in range(self.plan.epochs):
            row = {"epoch": float(epoch), "learning_rate": float(self.schedule.get_last_lr()[0])}
            row |= self._train_epoch(training, generator)
            logits, target = self.predict(validation)
            outputs.append(logits)
            loss = row["validation_loss"] = self.process.broadcast(self._loss(logits, target))
            if not math.isfinite(loss):
                raise DmlError(f"training diverged in epoch {epoch}: lower optimisation.learning_rate in params.yaml")
            waited = 0 if loss < best else waited + 1
            history.append(row | {"best": float(loss < best)})
            if loss < best:
                best, best_state = loss, copy.deepcopy(self.model.state_dict())
            if self.config.on_epoch is not None:
                self.config.on_epoch(epoch, loss)
            if waited >= self.plan.patience:
                break
        self.model.load_state_dict(best_state)
        self.model.eval()
        self.validation_logits, self.validation_target = torch.stack(outputs), target
        return pd.DataFrame(history)

    def predict(self, patients: Sequence[Patient]) -> tuple[Tensor, Target]:
        """Return logits (n k) and targets of some patients, without dropout."""
        self.model.eval()
        logits, targets = [], []
        with torch.inference_mode():
            for batch in make_batches(patients, self.preprocessor, self.plan.batch_size):
                logits.append(self.model(to_device(batch, self.process.device)).logits.cpu())
                targets.append(batch.target)
        return torch.cat(logits), concatenate_targets(targets)

    def _loss(self, logits: Tensor, target: Target) -> float:
        """Task loss over all known patients at once, without class weights."""
        if not target.known.any():
            raise DmlError("no validation patient has a target: raise split.validation_share or use fewer folds")
        return float(task_loss(logits, target, cox_weight=self.settings.cox_loss_weight))

    def _train_epoch(self, training: Sequence[Patient], generator: torch.Generator) -> dict[str, float]:
        """Train one epoch and return the mean of each metric over its steps."""
        self.model.train()
        sums: dict[str, Tensor] = {}
        steps = 0
        for patients in bucketed_batches(training, self.plan.batch_size, generator):
            for name, value in self._train_step(patients):
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
            steps += 1
        return self.process.all_reduce_sum({name: float(value) / steps for name, value in sums.items()})

    def _train_step(self, patients: list[Patient]) -> list[tuple[str, Tensor]]:
        """Update the weights by one batch; return the metrics of this process's micro-batches, weighted by share."""
        process, settings = self.process, self.settings
        metrics: list[tuple[str, Tensor]] = []
        self.optimiser.zero_grad(set_to_none=True)
        for part in micro_batches(patients, settings.max_tokens, process.size)[process.rank :: process.size]:
            share = len(part) / len(patients)  # gradients of all parts add up to those of the batch
            batch = collate(part, self.preprocessor)
            coordinate = self.config.gradient_coordination and bool(batch.target.known.any())  # before it is on a GPU
            batch = drop_tokens_and_genes(
                to_device(batch, process.device), self.config.token_dropout, self.config.modality_dropout
            )
            batch = hide_clinical(batch, self.preprocessor.clinical)
            with torch.autocast(process.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                output: ModelOutput = self.model(batch)
                losses = self.objective(batch, output)
            coordination = self._backward(losses.scale(share), output, batch, coordinate)
            metrics += [(name, share * value.detach()) for name, value in _metrics(losses, coordination).items()]
        process.all_reduce_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, settings.grad_clip_norm)
        self.optimiser.step()
        self.schedule.step()
        return metrics

    def _backward(self, losses: Losses, output: ModelOutput, batch: Batch, coordinate: bool) -> Coordination | None:
        """Accumulate the gradients of all losses; those of the task coordinated between the subspaces."""
        terms = list(losses.terms.values())
        if not (coordinate and isinstance(self.model, BranchModel)):
            torch.stack([losses.task, *terms]).sum().backward()  # type: ignore[no-untyped-call]
            return None
        coordination = coordinated_backward(losses.task, output, self.model.head, self.parameters, batch.target)
        if terms:
            torch.stack(terms).sum().backward()  # type: ignore[no-untyped-call]
        return coordination


def _metrics(losses: Losses, coordination: Coordination | None) -> dict[str, Tensor]:
    metrics = {"train_task": losses.task, **{f"train_{name}": value for name, value in losses.terms.items()}}
    if coordination is not None and coordination.compared:
        metrics["conflicts"] = coordination.conflicts / coordination.compared
        metrics["cosine"] = coordination.cosine_sum / coordination.compared
    return metrics


def lr_factor(step: int, steps: int, warmup_fraction: float) -> float:
    """Factor on the learning rate: linear warm-up, then cosine that reaches zero after the last step."""
    warmup = max(1, round(warmup_fraction * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))
