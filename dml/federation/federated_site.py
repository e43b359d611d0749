"""A site: answers the requests of the server from its own stores; every answer is checked before it leaves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dml.config import params as config
from dml.core.device import resolve_device, torch_threads
from dml.core.errors import InputError
from dml.core.tasks import make_task
from dml.core.types import SURVIVAL, Batch, Cohort, ModelOutput
from dml.data.batches import make_batches
from dml.data.cohort_store import CohortStore
from dml.data.patient_reader import Patient
from dml.evaluation.metrics.concordance import count_pairs
from dml.federation.messages import HISTOGRAM_CELLS, Dimensions, Message, check_leaving, number
from dml.federation.site_summaries import clipped_sums, count_cells, expression_rows, summarise_patients
from dml.models.likelihoods import log_likelihood
from dml.training.checkpoint import FoldModel, ModelSpec
from dml.training.distributed import SingleProcess
from dml.training.folds import Fold, make_fold, select_test_patients
from dml.training.objectives import Losses, Objective, TaskObjective
from dml.training.runtime import reproducible
from dml.training.trainer import TrainConfig, Trainer


class Site:
    """One hospital.

    Parameters
    ----------
    folder : Path
        Its cohort store, ``data/<cohort>``.
    name : str
        Of the site, for messages.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.store, self.name = CohortStore(folder), name
        self._cohort: Cohort | None = None
        self._answers: dict[str, Callable[[Message], tuple[Message, Dimensions]]] = {
            "description": self._describe,
            "sums": self._sum,
            "histograms": self._count,
            "clipped_sums": self._sum_clipped,
            "training": self._train,
            "validation": self._validate,
            "risk": self._risk,
            "score": self._score,
        }

    def answer(self, kind: str, request: Message) -> Message:
        """Answer a request of the server.

        Raises
        ------
        InputError
            If there is no such request, the stores do not fit it, or the answer may not leave.
        """
        if kind not in self._answers:
            raise InputError(self.name, f"no request {kind!r}", f"There are {', '.join(self._answers)}")
        message, dims = self._answers[kind](request)
        return check_leaving(kind, message, dims)

    def _read(self, encoder: str, mpps: tuple[float, ...]) -> Cohort:
        if self._cohort is None:
            self._cohort = self.store.cohort(encoder, mpps)
        return self._cohort

    def _describe(self, request: Message) -> tuple[Message, Dimensions]:
        encoder, mpps = request.texts["encoder"][0], request.arrays["mpps"]
        cohort = self._read(encoder, tuple(float(mpp) for mpp in mpps))
        bags = [bag for case in cohort.cases for bag in case.bags.values() if len(bag)]
        tile = {float(bag.mpp): float(bag.tile_um) for bag in bags}
        task = request.texts["task"][0]
        if task != SURVIVAL and task not in cohort.classes:
            raise InputError(self.store.folder, f"no label {task}", "Name one that all sites have")
        measured = any(case.has_expression for case in cohort.cases)
        arrays = {
            "patients": number(len(cohort.cases)),
            "mpps": np.asarray(mpps, float),
            "tile_um": np.array([tile.get(float(mpp), np.nan) for mpp in mpps]),
            "width": number(bags[0].tokens.shape[1] if bags else 0),
        }
        texts = {
            "encoder": [encoder],
            "unit": [cohort.unit if measured else ""],
            "genes": list(cohort.genes) if measured else [],
            "classes": list(cohort.classes.get(task, ())),
            "tumor": list(cohort.groups.tumor),
            "tme": list(cohort.groups.tme),
        }
        return Message(arrays, texts), Dimensions(levels=len(mpps))

    def _learning(self, request: Message) -> Fold:
        if self._cohort is None:
            raise InputError(self.name, "it was not asked for a description", "Start the federation again")
        return make_fold(self._cohort, self.store.splits(), int(request.count("fold")))

    def _sum(self, request: Message) -> tuple[Message, Dimensions]:
        texts, width = request.texts, int(request.count("width"))
        name, classes = texts["task"][0], tuple(texts["classes"])
        task = make_task(name, {name: classes})
        message = summarise_patients(self._learning(request).learning, task, texts["genes"], texts["covariates"])
        arrays = {key: np.zeros(width) if key.startswith("token") and not len(array) else array
                  for key, array in message.arrays.items()}  # fmt: skip
        dims = Dimensions(width, len(texts["genes"]), len(texts["covariates"]), len(classes))
        return Message(arrays), dims

    def _count(self, request: Message) -> tuple[Message, Dimensions]:
        genes = request.texts["genes"]
        rows = expression_rows(self._learning(request).learning, genes)
        return count_cells(rows, request.arrays["mean"], request.arrays["deviation"]), Dimensions(genes=len(genes))

    def _sum_clipped(self, request: Message) -> tuple[Message, Dimensions]:
        genes = request.texts["genes"]
        rows = expression_rows(self._learning(request).learning, genes)
        return clipped_sums(rows, request.arrays["low"], request.arrays["high"]), Dimensions(genes=len(genes))

    def _train(self, request: Message) -> tuple[Message, Dimensions]:
        local = LocalTraining.of(request, self._learning(request))
        loss, validated = local.validation_loss()
        weights = local.train()
        arrays = {
            **weights,
            "patients": number(len(local.training)),
            "validation_loss_sum": number(loss),
            "validation_patients": number(validated),
        }
        given = {name: value.shape for name, value in request.arrays.items() if name.startswith("0.")}
        return Message(arrays), Dimensions(weights=given)

    def _validate(self, request: Message) -> tuple[Message, Dimensions]:
        loss, validated = LocalTraining.of(request, self._learning(request)).validation_loss()
        return Message({"validation_loss_sum": number(loss), "validation_patients": number(validated)}), Dimensions()

    def _risk(self, request: Message) -> tuple[Message, Dimensions]:
        """Count the risks of the learning patients in cells, for the median between the risk groups."""
        model, learning = read_model(request), self._learning(request).learning
        risk = model.predict(learning)["risk"].to_numpy(float)
        cells = np.clip((risk / len(model.spec.preprocessor.base_logits) + 1) * HISTOGRAM_CELLS, 0, HISTOGRAM_CELLS - 1)
        arrays = {
            "patients": number(len(risk)),
            "risk_sum": number(risk.sum()),
            "risk_square_sum": number(np.square(risk).sum()),
            "risk_cells": np.bincount(cells.astype(int), minlength=HISTOGRAM_CELLS).astype(float),
        }
        return Message(arrays), Dimensions()

    def _score(self, request: Message) -> tuple[Message, Dimensions]:
        """Count concordant pairs of the fold's test patients, who have left no other trace."""
        model, cohort = read_model(request), self._cohort
        if cohort is None:
            raise InputError(self.name, "it was not asked for a description", "Start the federation again")
        task = model.spec.preprocessor.task
        tested = select_test_patients(cohort, self.store.splits(), int(request.count("fold")))
        usable = tested.subset({c.patient_id for c in tested.cases if model.spec.accepts(c) and task.is_known(c)})
        concordant, comparable = concordance(model, usable)
        arrays = {"patients": number(len(usable.cases)), "concordant": number(concordant)}
        return Message({**arrays, "comparable": number(comparable)}), Dimensions()


def concordance(model: FoldModel, cohort: Cohort) -> tuple[float, float]:
    """Return concordant and comparable pairs: of survival, or of every class against the others."""
    task, none = model.spec.preprocessor.task, (0.0, 0.0)
    if not cohort.cases:
        return none
    predicted, cases = model.predict(cohort), {case.patient_id: case for case in cohort.cases}
    known = [cases[patient] for patient in predicted["patient_id"]]
    if task.kind == "survival":
        follow_up = [case.survival for case in known if case.survival is not None]
        days, event = np.array([s.days for s in follow_up]), np.array([s.event for s in follow_up], bool)
        pairs = count_pairs(days, event, predicted["risk"].to_numpy(float), np.zeros(len(days), int))
        return pairs.concordant + 0.5 * pairs.tied_risk, float(pairs.comparable)
    concordant = comparable = 0.0
    for name, column in zip(task.classes, task.output_columns(()), strict=True):
        values, inside = predicted[column].to_numpy(float), np.array([c.labels[task.name] == name for c in known])
        gaps = values[inside][:, None] - values[~inside][None, :]
        concordant, comparable = concordant + (gaps > 0).sum() + 0.5 * (gaps == 0).sum(), comparable + gaps.size
    return float(concordant), float(comparable)


def read_model(request: Message) -> FoldModel:
    """Return the model whose description and weights a request has."""
    spec = ModelSpec.model_validate_json(request.texts["spec"][0])
    members = tuple(spec.build().eval() for _ in range(spec.members))
    for i, member in enumerate(members):
        member.load_state_dict(
            {name: torch.from_numpy(np.array(request.arrays[f"{i}.{name}"])) for name in member.state_dict()}
        )
    return FoldModel(spec, members)


@dataclass
class Proximal:
    """A training's objective, and half the squared distance from the weights of all sites (FedProx).

    Source: Li et al., Federated optimization in heterogeneous networks, MLSys 2020.
    """

    objective: Objective
    network: torch.nn.Module
    weight: float
    start: Mapping[str, torch.Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.start = {name: value.detach().clone() for name, value in self.network.named_parameters()}

    def __call__(self, batch: Batch, output: ModelOutput) -> Losses:
        """Compute the losses of one batch."""
        losses = self.objective(batch, output)
        if not self.weight:
            return losses
        moved = [(value - self.start[name]).square().sum() for name, value in self.network.named_parameters()]
        return Losses(losses.task, {**losses.terms, "proximal": self.weight / 2 * torch.stack(moved).sum()})


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """One round at a site: the weights of all sites, and the patients that learn from them and validate them."""

    model: FoldModel
    params: config.Params
    training: list[Patient]
    validation: list[Patient]
    objective: Objective
    proximal: float
    seed: int

    @classmethod
    def of(cls, request: Message, fold: Fold) -> "LocalTraining":
        """Read a request and the site's patients of its fold and member."""
        model = read_model(request)
        params = config.Params.model_validate_json(request.texts["params"][0])
        member, task = int(request.count("member")), model.spec.preprocessor.task
        teacher = teacher_of(request)
        read = model.reader(fold.learning)
        usable = [c for c in fold.learning.cases if model.spec.accepts(c)]
        taught = [c for c in usable if task.is_known(c) or (teacher is not None and c.has_expression)]
        validated = {case.patient_id for case in fold.validation(member).cases if task.is_known(case)}
        patients = [read(case) for case in taught]
        targets = None
        if teacher is not None:
            teacher_reads = teacher.reader(fold.learning)
            targets = teacher.distillation_targets([teacher_reads(case) for case in taught], 0)
        role: Any = model.spec.name if model.spec.name in ("teacher", "student") else None
        return cls(
            model,
            params,
            [p for p in patients if p.patient_id not in validated],
            [p for p in patients if p.patient_id in validated],
            TaskObjective(model.spec.preprocessor, params, role, targets),
            float(request.count("proximal")),
            int(request.count("round")) * 1000 + member,
        )

    @torch_threads(1)
    @torch.inference_mode()
    def validation_loss(self) -> tuple[float, int]:
        """Return the sum of negative log-likelihoods of the validation patients, and their number."""
        total = 0.0
        for batch in make_batches(self.validation, self.model.spec.preprocessor, 16):
            total -= float(log_likelihood(self.model.members[0](batch).logits, batch.target).sum())
        return total, len(self.validation)

    def train(self) -> dict[str, np.ndarray]:
        """Train some epochs on the site's patients; return the weights. Without a patient they stay as they are."""
        network = self.model.members[0]
        if self.training:
            settings = self.params.optimisation
            spec = self.model.spec
            train = TrainConfig(
                settings,
                self.seed,
                spec.entry.wants_gradient_coordination and self.params.teacher.use_gradient_coordination,
                self.params.model.token_dropout,
                self.params.teacher.modality_dropout if spec.name == "teacher" else 0.0,
            )
            with reproducible(self.seed, settings.threads, settings.precision):
                loss = Proximal(self.objective, network, self.proximal)
                process = SingleProcess(resolve_device(settings.device))
                trainer = Trainer(network, loss, spec.preprocessor, train, process)
                trainer.fit(self.training, self.validation or self.training)
        return {f"0.{name}": value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def teacher_of(request: Message) -> FoldModel | None:
    """Return the teacher that a student of a request is distilled from."""
    if "teacher_spec" not in request.texts:
        return None
    prefix = "teacher."
    arrays = {n.removeprefix(prefix): v for n, v in request.arrays.items() if n.startswith(prefix)}
    return read_model(Message(arrays, {"spec": request.texts["teacher_spec"]}))
