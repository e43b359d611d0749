"""Steps that train: the head alone, or low-rank changes of all layers with distillation from the champion and replay.

Both start from the champion and use the same trainer as any training. Distillation keeps the updated model near what
the champion predicted of patients whom it knows (replayed ones; without them of the new ones), which is what is
forgotten otherwise (Li and Hoiem, Learning without forgetting, ECCV 2016).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from dml.config import params as config
from dml.core.device import resolve_device
from dml.core.errors import InputError
from dml.core.types import Batch, Cohort, ModelOutput
from dml.data.batches import make_batches
from dml.data.patient_reader import Patient
from dml.models.likelihoods import LIKELIHOODS
from dml.models.multi_scale import BranchModel
from dml.training.checkpoint import FoldModel
from dml.training.distributed import SingleProcess
from dml.training.objectives import Losses, TaskObjective
from dml.training.runtime import reproducible, to_device
from dml.training.trainer import TrainConfig, Trainer
from dml.update.low_rank_weights import add_low_rank, merge_low_rank

DISTILLATION_WEIGHT = 1.0
VALIDATION_SHARE = 5
"""One of so many new patients chooses the epoch and is not trained on."""


class NearChampion:
    """The task's loss, and the divergence from what the champion predicted of some patients.

    Parameters
    ----------
    task : TaskObjective
        The task's loss.
    champion : mapping
        Patient to the champion's logits.
    """

    def __init__(self, task: TaskObjective, kind: str, champion: Mapping[str, Tensor]) -> None:
        self._task, self._champion = task, champion
        self._likelihood = next(each for name, each in LIKELIHOODS.items() if name == kind)

    def __call__(self, batch: Batch, output: ModelOutput) -> Losses:
        """Compute the losses of one batch."""
        losses = self._task(batch, output)
        rows = [i for i, patient in enumerate(batch.patient_ids) if patient in self._champion]
        if not rows:
            return losses
        before = torch.stack([self._champion[batch.patient_ids[i]] for i in rows])
        divergence = self._likelihood.divergence(to_device(before, output.logits.device), output.logits[rows])
        term = DISTILLATION_WEIGHT * divergence.mean() * len(rows) / len(batch.patient_ids)
        return Losses(losses.task, {**losses.terms, "near_champion": term})


def train_head(champion: FoldModel, new: Cohort, params: config.Params, seed: int) -> FoldModel:
    """Train the last layer of every member on new patients, starting from the champion's."""
    return _train(champion, new, None, params, seed, low_rank=False)


def train_adapters(
    champion: FoldModel, new: Cohort, replay: Cohort | None, params: config.Params, seed: int
) -> FoldModel:
    """Train low-rank changes of all linear maps, and the last layer, on new and replayed patients."""
    return _train(champion, new, replay, params, seed, low_rank=True)


def _train(
    champion: FoldModel, new: Cohort, replay: Cohort | None, params: config.Params, seed: int, low_rank: bool
) -> FoldModel:
    training, validation = split_patients(_readable(champion, new), seed)
    replayed = [] if replay is None else _sample(_readable(champion, replay), len(training), seed)
    near_champion = (replayed or training) if low_rank else []
    members = []
    for index, member in enumerate(champion.members):
        network = copy.deepcopy(member)
        with reproducible(seed + index, params.optimisation.threads, params.optimisation.precision):
            objective = TaskObjective(champion.spec.preprocessor, params)
            near = _logits(member, near_champion, champion)
            _choose_parameters(network, low_rank)
            settings = TrainConfig(params.optimisation, seed=seed + index, token_dropout=params.model.token_dropout)
            loss = NearChampion(objective, champion.spec.preprocessor.task.kind, near) if near else objective
            device = SingleProcess(resolve_device(params.optimisation.device))
            Trainer(network, loss, champion.spec.preprocessor, settings, device).fit([*training, *replayed], validation)
            merge_low_rank(network)
        members.append(_frozen(network))
    return FoldModel(champion.spec, tuple(members))


def _choose_parameters(network: nn.Module, low_rank: bool) -> None:
    if not isinstance(network, BranchModel):
        raise InputError("update", "this student has the frozen head of its teacher", "Update it by --until slope")
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    if low_rank:
        add_low_rank(network)
    for name, parameter in network.head.named_parameters():
        parameter.requires_grad_(not name.startswith("auxiliary") and (low_rank or "parametrizations" not in name))
        if name.endswith("original"):
            parameter.requires_grad_(False)


def _frozen(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network.cpu().eval()


def _readable(model: FoldModel, cohort: Cohort) -> list[Patient]:
    """Patients of known outcome; of those whom the linear offset was fitted on, its mean over inner folds is taken."""
    read, task = model.reader(cohort), model.spec.preprocessor.task
    return [read(case) for case in cohort.cases if model.spec.accepts(case) and task.is_known(case)]


def _sample(patients: Sequence[Patient], number: int, seed: int) -> list[Patient]:
    order = np.random.default_rng([seed, 3]).permutation(len(patients))[:number]
    return [patients[i] for i in sorted(order)]


def split_patients(patients: Sequence[Patient], seed: int) -> tuple[list[Patient], list[Patient]]:
    """Divide patients into those trained on and those that choose the epoch; deaths are in both.

    Raises
    ------
    InputError
        If there are too few.
    """
    if len(patients) < 2 * VALIDATION_SHARE:
        raise InputError("update", f"{len(patients)} new patients of known outcome to train on", "Use --until slope")
    drawn = np.random.default_rng([seed, 4]).random(len(patients))
    died = np.array([p.survival is not None and p.survival.event for p in patients])
    order = np.lexsort((drawn, died))
    chosen = set(order[::VALIDATION_SHARE].tolist())
    training = [p for i, p in enumerate(patients) if i not in chosen]
    return training, [p for i, p in enumerate(patients) if i in chosen]


@torch.inference_mode()
def _logits(member: nn.Module, patients: Sequence[Patient], champion: FoldModel) -> dict[str, Tensor]:
    logits: dict[str, Tensor] = {}
    for batch in make_batches(patients, champion.spec.preprocessor, 16):
        logits |= dict(zip(batch.patient_ids, member(batch).logits.clone(), strict=True))
    return logits


def rescale_risk(model: FoldModel, patients: Cohort) -> FoldModel:
    """Return the model with the median and deviation of the risk of the patients it is now for."""
    if model.spec.preprocessor.task.kind != "survival":
        return model
    risk = model.predict(patients)["risk"]
    update = {"train_cutoff": float(risk.median()), "train_risk_deviation": float(risk.std(ddof=0)) or 1.0}
    return replace(model, spec=model.spec.model_copy(update=update))
