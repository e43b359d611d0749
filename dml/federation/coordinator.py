"""The server's part of a federated training, whatever carries the messages: preparation, rounds, scores.

    w <- sum_s n_s w_s / sum_s n_s         (FedAvg: McMahan et al., AISTATS 2017), with a proximal term FedProx

The weights that are kept are those of the round with the lowest validation loss over all sites. A site that does not
answer is left out of a round and asked again in the next.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from dml import __version__
from dml.config import params as config
from dml.core.errors import DmlError, InputError, listed
from dml.core.tasks import Task, make_task
from dml.data.preprocessing import Preprocessor, Scaling
from dml.federation.messages import Message, number
from dml.federation.pooled_preprocessor import add_messages, clip_ends, moments, pool_preprocessor
from dml.models.multi_scale import BranchModel
from dml.training.checkpoint import FoldModel, ModelSpec

log = logging.getLogger(__name__)


class Sites(Protocol):
    """Carries a request to all sites that take part and returns the answers by site; absent sites are left out."""

    def ask(self, kind: str, request: Message) -> Mapping[str, Message]:
        """Return the answers."""
        ...


@dataclass(frozen=True, slots=True)
class FederationSettings:
    """Rounds, epochs of each at a site, weight of the proximal term (0: FedAvg), sites that must answer."""

    rounds: int = 10
    local_epochs: int = 1
    proximal: float = 0.0
    min_sites: int = 1


@dataclass(frozen=True, slots=True)
class Preparation:
    """What all sites have in common: the task, the genes of all that measure any, width and side of tiles."""

    task: Task
    genes: tuple[str, ...]
    groups: tuple[tuple[str, ...], tuple[str, ...]]
    unit: str
    width: int
    tile_um: tuple[float, ...]
    patients: Mapping[str, int]


@dataclass
class Coordinator:
    """Trains a model of one fold across sites.

    Parameters
    ----------
    sites : Sites
        Carry the messages.
    params : Params
        Of the training; the linear offset, gene programs and auxiliary labels are switched off.
    task : str
        "survival", or a label.
    """

    sites: Sites
    params: config.Params
    task: str
    settings: FederationSettings = FederationSettings()
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.params = without_local_parts(self.params, self.settings.local_epochs)

    def ask(self, kind: str, request: Message) -> Mapping[str, Message]:
        """Ask all sites.

        Raises
        ------
        DmlError
            If fewer answer than must.
        """
        answers = self.sites.ask(kind, request)
        if len(answers) < self.settings.min_sites:
            raise DmlError(f"{kind}: {len(answers)} sites answered, {self.settings.min_sites} must. Start them again")
        return answers

    def prepare(self) -> Preparation:
        """Align genes, classes and tiles of the sites.

        Raises
        ------
        InputError
            If sites differ in what must be the same.
        """
        mpps = np.array(sorted(self.params.tiles.mpps))
        request = Message({"mpps": mpps}, {"encoder": [self.params.embed.encoder], "task": [self.task]})
        answers = self.ask("description", request)
        texts = {name: {site: tuple(a.texts[name]) for site, a in answers.items()} for name in ("classes", "unit")}
        for name, of_site in texts.items():
            if len({value for value in of_site.values() if value != ("",)}) > 1:
                raise InputError("federation", f"sites have other {name}: {of_site}", "Describe them alike")
        measuring = {site: a for site, a in answers.items() if a.texts["genes"]}
        common = set.intersection(*(set(a.texts["genes"]) for a in measuring.values())) if measuring else set()
        first = next(iter(measuring.values()), next(iter(answers.values())))
        genes = tuple(gene for gene in first.texts["genes"] if gene in common)
        tumor, tme = (tuple(g for g in first.texts[part] if g in common) for part in ("tumor", "tme"))
        widths = {int(a.count("width")) for a in answers.values()} - {0}
        sides = np.array([a.arrays["tile_um"] for a in answers.values() if a.count("width")])
        if len(widths) != 1 or np.nanmax(np.ptp(sides, axis=0)) > 0.02 * np.nanmax(sides):
            raise InputError("federation", f"sites have features of width {listed(sorted(widths))}", "Use one encoder")
        unit = next((a.texts["unit"][0] for a in measuring.values()), "absent")
        patients = {site: int(a.count("patients")) for site, a in answers.items()}
        task = make_task(self.task, {self.task: first.texts["classes"]})
        side = tuple(float(value) for value in np.nanmean(sides, axis=0))
        return Preparation(task, genes, (tumor, tme), unit, widths.pop(), side, patients)

    def fit_preprocessor(self, prepared: Preparation, fold: int) -> Preprocessor:
        """Fit the preprocessing of a fold to sums and counts of all sites."""
        covariates = self.params.inputs.covariates
        names = {"task": [self.task], "classes": prepared.task.classes, "covariates": covariates}
        at, genes = {"fold": number(fold)}, {"genes": prepared.genes}
        request = Message({**at, "width": number(prepared.width)}, {**names, **genes})
        sums = add_messages([*self.ask("sums", request).values()])
        mean, deviation = moments(sums, "gene")
        cells = self.ask("histograms", Message({**at, "mean": mean, "deviation": deviation}, genes))
        low, high = clip_ends(add_messages([*cells.values()])["gene_cells"], mean, deviation)
        clipped = self.ask("clipped_sums", Message({**at, "low": low, "high": high}, genes))
        scaled = Scaling(
            **dict(zip(("mean", "deviation"), moments(add_messages([*clipped.values()]), "gene"), strict=True)),
            low=low,
            high=high,
        )
        index = {gene: i for i, gene in enumerate(prepared.genes)}
        parts = [_select(scaled, [index[gene] for gene in group]) for group in prepared.groups]
        return pool_preprocessor(
            prepared.task, self.params, sums, (parts[0], parts[1]), prepared.groups, prepared.unit, prepared.tile_um
        )

    def train(self, name: str, preprocessor: Preprocessor, fold: int, teacher: FoldModel | None = None) -> FoldModel:
        """Train a model of a fold by rounds; `teacher` is what a student is distilled from."""
        members = [
            self._train_member(name, preprocessor, fold, member, teacher)
            for member in range(self.params.optimisation.ensemble_size)
        ]
        spec = members[0].spec.model_copy(update={"members": len(members)})
        return FoldModel(spec, tuple(model.members[0] for model in members))

    def _train_member(
        self, name: str, preprocessor: Preprocessor, fold: int, member: int, teacher: FoldModel | None
    ) -> FoldModel:
        model = self._start(name, preprocessor, fold, member)
        best, best_weights = math.inf, weights_of(model)
        texts = {"spec": [model.spec.model_dump_json()]}
        arrays = {"fold": number(fold), "member": number(member), "proximal": number(self.settings.proximal)}
        if teacher is not None:
            arrays |= {f"teacher.{key}": value for key, value in weights_of(teacher).items()}
            texts["teacher_spec"] = [teacher.spec.model_dump_json()]
        weights = weights_of(model)
        for turn in range(self.settings.rounds + 1):
            rate = self.params.optimisation.learning_rate * 0.5 * (1 + math.cos(math.pi * turn / self.settings.rounds))
            optimisation = self.params.optimisation.model_copy(update={"learning_rate": max(rate, 1e-8)})
            params = self.params.model_copy(update={"optimisation": optimisation})
            request = Message(
                {**weights, **arrays, "round": number(turn)}, {**texts, "params": [params.model_dump_json()]}
            )
            answers = self.ask("training" if turn < self.settings.rounds else "validation", request)
            loss = mean_loss(answers.values())
            self.history.append({"fold": fold, "member": member, "round": turn, "sites": len(answers), "loss": loss})
            log.info("%s fold %d round %d: %d sites, validation loss %.4f", name, fold, turn, len(answers), loss)
            if loss < best:
                best, best_weights = loss, weights
            if turn < self.settings.rounds:
                weights = average_weights(answers)
        return with_weights(model, best_weights)

    def _start(self, name: str, preprocessor: Preprocessor, fold: int, member: int) -> FoldModel:
        params = self.params
        spec = ModelSpec(
            name=name,
            preprocessor=preprocessor,
            model=params.model,
            teacher=params.teacher,
            distillation=params.distillation,
            tiles=params.tiles,
            embed=config.Embed(precision=params.embed.precision, runtime=params.embed.runtime),
            years=params.evaluation.years,
            members=1,
            seed=params.seed,
            versions={"dml": __version__, "torch": torch.__version__, "numpy": np.__version__},
        )
        with torch.random.fork_rng():
            torch.manual_seed(int(np.random.SeedSequence([params.seed, fold, member]).generate_state(1)[0]))
            network = spec.build()
        if isinstance(network, BranchModel):
            with torch.no_grad():
                network.head.bias.copy_(torch.from_numpy(np.asarray(preprocessor.base_logits)))
        return FoldModel(spec, (network.eval(),))

    def centre_risk(self, model: FoldModel, fold: int) -> FoldModel:
        """Return the model with median and deviation of the risk of the learning patients of all sites."""
        if model.spec.preprocessor.task.kind != "survival":
            return model
        texts = {"spec": [model.spec.model_dump_json()]}
        answers = self.ask("risk", Message({**weights_of(model), "fold": number(fold)}, texts))
        sums, bins = add_messages([*answers.values()]), len(model.spec.preprocessor.base_logits)
        patients, cells = sums["patients"], np.concatenate([[0.0], np.cumsum(sums["risk_cells"])])
        median = np.interp(cells[-1] / 2, cells, np.linspace(-bins, 0, len(cells)))
        deviation = np.sqrt(np.maximum(sums["risk_square_sum"] / patients - (sums["risk_sum"] / patients) ** 2, 0.0))
        update = {"train_cutoff": float(median), "train_risk_deviation": float(deviation) or 1.0}
        return FoldModel(model.spec.model_copy(update=update), model.members)

    def score(self, model: FoldModel, fold: int) -> dict[str, tuple[float, float, int]]:
        """Return of each site concordant and comparable pairs, and the number, of its test patients."""
        texts = {"spec": [model.spec.model_dump_json()]}
        answers = self.ask("score", Message({**weights_of(model), "fold": number(fold)}, texts))
        return {s: (a.count("concordant"), a.count("comparable"), int(a.count("patients"))) for s, a in answers.items()}


def without_local_parts(params: config.Params, local_epochs: int) -> config.Params:
    """Return parameters without what is fitted to the patients of one place: linear offset, programs, auxiliary.

    Students of federated teachers are distilled towards its answer to slide and genes, all patients alike.
    """
    off: dict[str, Any] = {"program_weight": 0.0, "use_linear_offset": False}
    off |= {"targets": "fused", "teacher_members": "matched", "patient_weights": "none"}
    offset = params.model.linear_offset.model_copy(update={"components": 0})
    optimisation = {"epochs": local_epochs, "patience": local_epochs, "shrinkage": None, "warmup_fraction": 0.0}
    return params.model_copy(
        update={
            "model": params.model.model_copy(update={"linear_offset": offset}),
            "inputs": params.inputs.model_copy(update={"auxiliary": (), "clinical": ()}),
            "distillation": params.distillation.model_copy(update=off),
            "optimisation": params.optimisation.model_copy(update=optimisation),
        }
    )


def weights_of(model: FoldModel) -> dict[str, np.ndarray]:
    """Return the weights of all members by ``<member>.<name>``."""
    return {
        f"{i}.{name}": value.detach().cpu().numpy().copy()
        for i, member in enumerate(model.members)
        for name, value in member.state_dict().items()
    }


def with_weights(model: FoldModel, weights: Mapping[str, np.ndarray]) -> FoldModel:
    """Return a model of one member with other weights."""
    network = model.spec.build()
    network.load_state_dict({n.removeprefix("0."): torch.from_numpy(np.array(value)) for n, value in weights.items()})
    return FoldModel(model.spec, (network.eval(),))


def average_weights(answers: Mapping[str, Message]) -> dict[str, np.ndarray]:
    """Average the weights of the sites by their numbers of training patients.

    Raises
    ------
    DmlError
        If no site that answered has a patient to train on.
    """
    messages = [message for _, message in sorted(answers.items()) if message.count("patients")]
    total = sum(message.count("patients") for message in messages)
    if not total:
        raise DmlError("no site has a patient to train on: check the task and the folds of the sites")
    names = [name for name in messages[0].arrays if name[0].isdigit()]
    averaged = {}
    for name in names:
        mean = sum(m.arrays[name].astype(np.float64) * (m.count("patients") / total) for m in messages)
        averaged[name] = np.asarray(mean).astype(messages[0].arrays[name].dtype)
    return averaged


def mean_loss(answers: Iterable[Message]) -> float:
    """Return the mean validation loss over the patients of all sites."""
    messages = list(answers)
    patients = sum(message.count("validation_patients") for message in messages)
    if not patients:
        raise DmlError("no site has a validation patient of known outcome: check the folds of the sites")
    return sum(message.count("validation_loss_sum") for message in messages) / patients


def _select(scaling: Scaling, index: Sequence[int]) -> Scaling:
    parts = {name: getattr(scaling, name) for name in ("mean", "deviation", "low", "high")}
    return Scaling(**{name: np.asarray(part)[list(index)] for name, part in parts.items()})
