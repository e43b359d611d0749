"""Pretrain the student's slide network and the teacher's gene encoder on pairs of several cohorts, without outcomes.

Arms, each with a weight of `pretraining`: gene components of each group predicted from the token of its subspace,
InfoNCE between tokens and gene embeddings (`contrast`), and clusters that both share (`clustering`). The number of
epochs is fixed and the last weights are taken, so nothing is selected. Learning patients of the first inner fold are
held out, for the numbers in the report only.
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dml.config import params as config
from dml.core.device import resolve_device
from dml.core.errors import DmlError, InputError
from dml.core.files import digest
from dml.core.types import SUBSPACES, Cohort, Subspace
from dml.data.augmentation import drop_tokens_and_genes
from dml.data.batch_sampler import bucketed_batches
from dml.data.batches import collate
from dml.data.gene_programs import GenePrograms
from dml.data.patient_reader import Patient
from dml.data.preprocessing import Preprocessor
from dml.linear_models.fit_programs import predictability
from dml.pretraining.balanced_clusters import clustering_loss
from dml.pretraining.contrast import PairQueue, contrast_loss
from dml.pretraining.held_out import linear_reference, mean_tokens, measure
from dml.pretraining.network import PairEncoding, PretrainingNetwork
from dml.pretraining.pairs import Pair, Pairs, make_pairs, read_other_cohorts
from dml.pretraining.pretrained import Pretrained
from dml.pretraining.site_signal import compare_site_signal
from dml.training.folds import Fold, make_fold, select_test_patients
from dml.training.runtime import keep_freed_memory, reproducible, to_device
from dml.training.trainer import lr_factor

log = logging.getLogger(__name__)

LEAST_WEIGHT = 0.02
"""Predictability that every gene component has at least in the weights of the loss."""
MIN_PAIRS = 10
Targets = dict[str, Tensor]


def pretrain(
    fold: Fold, other_cohorts: Sequence[Cohort], params: config.Params, test_patients: Collection[str]
) -> Pretrained:
    """Return initial weights for teacher and student of one fold.

    Parameters
    ----------
    fold : Fold
        Learning patients of the cohort that is trained for; the first inner fold is held out.
    other_cohorts : sequence of Cohort
        Cohorts with features of the same encoder. None of their outcomes is read.
    params : Params
        Section `pretraining`, and the architecture.
    test_patients : collection of str
        Ids of the fold's test patients, who are left out of the other cohorts where they are in them, too.

    Raises
    ------
    InputError
        If a cohort does not fit, or there are too few pairs.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from dml.data.example_cohort import example_cohort, example_splits
    >>> from dml.training.folds import make_fold
    >>> cohort, other = example_cohort(20), example_cohort(30, seed=1)
    >>> cases = tuple(replace(case, patient_id=f"B{case.patient_id}") for case in other.cases)
    >>> other = replace(other, name="other", cases=cases)
    >>> fold, settings = make_fold(cohort, example_splits(cohort), 0), config.Pretraining(epochs=1)
    >>> params = config.Params(cohort="synthetic", tasks=("survival",), folds=(0, 1), pretraining=settings)
    >>> pretrained = pretrain(fold, [other], params, {"P004"})
    >>> pretrained.report["pairs"], pretrained.report["held_out"]["patients"]
    ({'synthetic': 12, 'other': 30}, 4)
    """
    pairs = make_pairs(fold, other_cohorts, params, test_patients)
    if len(pairs.training) < MIN_PAIRS:
        remedy = "Name larger cohorts in pretraining.cohorts, or none"
        raise InputError("pretraining", f"{len(pairs.training)} patients have slide and expression", remedy)
    log.info("pretraining fold %d: pairs %s, %d held out", fold.index, pairs.counts, len(pairs.held_out))
    optimisation = params.optimisation
    seed = int(np.random.SeedSequence([params.seed, fold.index]).generate_state(2)[1])
    with reproducible(seed, optimisation.threads, optimisation.precision):
        programs = fit_components(pairs, params.pretraining.components)
        components: dict[Subspace, int] = {s: len(programs[s].mean) for s in SUBSPACES if s in programs}
        network = PretrainingNetwork(pairs.preprocessors[0].dims, params, components)
        trainer = PairTrainer(network, pairs.preprocessors, programs, params)
        home = [pair for pair in (*pairs.training, *pairs.held_out) if pair.cohort == 0]
        sources = {"input": mean_tokens(home, pairs.preprocessors), "before": trainer.tokens(home)}
        history = trainer.fit(pairs.training, seed)
        sources["after"] = trainer.tokens(home)
        held_out: dict[str, Any] = {"patients": 0}
        if pairs.held_out:
            linear = linear_reference(pairs.training, pairs.held_out, pairs.preprocessors, programs)
            held_out = trainer.measure(pairs.held_out) | {"linear": linear}
    report = {
        "pairs": pairs.counts,
        "held_out": held_out,
        "predictability": {s: np.round(each.predictability, 4).tolist() for s, each in programs.items()},
        "history": history,
        "site_auc": compare_site_signal(sources, [pair.site for pair in home], params.checks.min_site_patients),
        "patient_hashes": sorted({digest(pair.patient.patient_id) for pair in pairs.training}),
    }
    return Pretrained(network.initial_weights(), report)


def pretrain_fold(cohort: Cohort, splits: pd.DataFrame, index: int, params: config.Params) -> Pretrained:
    """Pretrain one fold on the cohorts that `pretraining.cohorts` names, as `pretrain` does."""
    test = {case.patient_id for case in select_test_patients(cohort, splits, index).cases}
    return pretrain(make_fold(cohort, splits, index), read_other_cohorts(params), params, test)


def fit_components(pairs: Pairs, count: int) -> dict[str, GenePrograms]:
    """Fit the mean and the principal components of each gene group over the training pairs of all cohorts.

    Weights follow what a ridge regression on mean tokens predicts of each for pairs that it was not fitted to.
    """
    columns = mean_tokens(pairs.training, pairs.preprocessors)
    parts = np.arange(len(pairs.training)) % 2

    def predict(scores: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum(predictability(columns, scores, parts), LEAST_WEIGHT))

    groups = {s: np.array([getattr(pair.patient, s) for pair in pairs.training], dtype=float) for s in SUBSPACES}
    return {
        s: GenePrograms.fit(genes, min(count, *genes.shape), predict) for s, genes in groups.items() if genes.shape[1]
    }


@dataclass(frozen=True, slots=True)
class PairTrainer:
    """Training of the network: batches of patients of several cohorts, each scaled as its cohort is.

    Attributes
    ----------
    network : PretrainingNetwork
        Trained in place.
    preprocessors : tuple of Preprocessor
        By number of cohort.
    programs : mapping
        Gene components by subspace.
    params : Params
        Sections `pretraining`, `optimisation` and `model`.
    """

    network: PretrainingNetwork
    preprocessors: tuple[Preprocessor, ...]
    programs: Mapping[str, GenePrograms]
    params: config.Params

    def fit(self, pairs: Sequence[Pair], seed: int) -> list[dict[str, float]]:
        """Train for all epochs; return the mean of each arm's loss in each."""
        settings, optimisation = self.params.pretraining, self.params.optimisation
        keep_freed_memory()
        network = self.network.to(resolve_device(optimisation.device)).train()
        parameters = list(network.parameters())
        optimiser = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=optimisation.weight_decay)
        steps = math.ceil(len(pairs) / settings.batch_size) * settings.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: lr_factor(step, steps, optimisation.warmup_fraction)
        )
        generator, queue = torch.Generator().manual_seed(seed), PairQueue(settings.queue)
        history: list[dict[str, float]] = []
        for epoch in range(settings.epochs):
            losses: list[dict[str, float]] = []
            for batch in bucketed_batches(pairs, settings.batch_size, generator):
                optimiser.zero_grad(set_to_none=True)
                terms = self.losses(batch, queue)
                torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, optimisation.grad_clip_norm)
                optimiser.step()
                schedule.step()
                losses.append({name: float(value.detach()) for name, value in terms.items()})
            row = {name: float(np.mean([each[name] for each in losses])) for name in losses[0]}
            if not all(map(math.isfinite, row.values())):
                raise DmlError(f"pretraining diverged in epoch {epoch}: lower pretraining.learning_rate in params.yaml")
            history.append({"epoch": float(epoch), **row})
        network.eval()
        return history

    def losses(self, batch: Sequence[Pair], queue: PairQueue) -> dict[str, Tensor]:
        """Return the weighted loss of each arm that has a weight, and add the pairs to the queue."""
        settings = self.params.pretraining
        encoding, targets, numbers = self.encode(batch, self.params.model.token_dropout)
        terms: dict[str, Tensor] = {}
        if settings.expression_weight:
            terms["expression"] = settings.expression_weight * self.expression_loss(encoding, targets)
        if settings.contrast_weight:
            contrast = contrast_loss(encoding, numbers, queue, self.network.scale)
            terms["contrast"] = settings.contrast_weight * contrast
            queue.push(encoding, numbers)
        if settings.clustering_weight:
            clustering = clustering_loss(encoding, dict(self.network.prototypes.items()))
            terms["clustering"] = settings.clustering_weight * clustering
        return terms

    def expression_loss(self, encoding: PairEncoding, targets: Targets) -> Tensor:
        """Return the squared error of the components, weighted by what a slide predicts of each."""
        errors = [
            ((encoding.components[s] - target).square() * torch.from_numpy(self.programs[s].weights).to(target)).mean()
            for s, target in targets.items()
        ]
        return torch.stack(errors).mean()

    def encode(self, batch: Sequence[Pair], token_dropout: float = 0.0) -> tuple[PairEncoding, Targets, Tensor]:
        """Encode pairs; return their encodings, measured components, and numbers."""
        device = self.network.log_scale.device
        inputs = collate([self._on_one_scale(pair) for pair in batch], self.preprocessors[0])
        genes = {s: inputs.expression[s].double().numpy() for s in self.programs}
        targets = {s: torch.from_numpy(self.programs[s].standardise(genes[s])).float().to(device) for s in genes}
        encoding = self.network(drop_tokens_and_genes(to_device(inputs, device), token_dropout, 0.0))
        return encoding, targets, torch.tensor([pair.number for pair in batch], device=device)

    def _on_one_scale(self, pair: Pair) -> Patient:
        """Return a patient whose tokens become what its own cohort's scaling makes of them, by that of the first."""
        if pair.cohort == 0:
            return pair.patient
        (shift, factor), (to_shift, to_factor) = (
            (torch.from_numpy(scaling.mean), torch.from_numpy(scaling.deviation))
            for scaling in (self.preprocessors[index].tokens for index in (pair.cohort, 0))
        )
        levels = tuple(
            replace(level, tokens=(level.tokens.float() - shift) / factor * to_factor + to_shift)
            for level in pair.patient.levels
        )
        return replace(pair.patient, levels=levels)

    def tokens(self, pairs: Sequence[Pair]) -> Float[np.ndarray, "n d"]:
        """Return the tokens of both subspaces of some pairs."""
        if not pairs:
            return np.zeros((0, 0))
        tokens = self._encode_all(pairs)[0].tokens
        return torch.cat(list(tokens.values()), dim=1).double().numpy()

    def measure(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Return the numbers of `held_out.measure` on some pairs."""
        return measure(*self._encode_all(pairs))

    @torch.no_grad()
    def _encode_all(self, pairs: Sequence[Pair]) -> tuple[PairEncoding, Targets]:
        """Encode pairs without dropout, into the memory of the processor."""
        self.network.eval()
        size = self.params.pretraining.batch_size
        parts = [self.encode(pairs[start : start + size]) for start in range(0, len(pairs), size)]
        targets = {s: torch.cat([part[1][s] for part in parts]).cpu() for s in self.programs}
        return PairEncoding.join([part[0] for part in parts]).cpu(), targets
