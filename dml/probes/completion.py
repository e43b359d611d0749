"""How well sampled gene embeddings meet those of measured genes: the energy score, and slides of others as the null.

    ES(y) = mean_k |x_k - y| - 1/2 mean_kl |x_k - x_l|        x_k: samples, y: the teacher's embedding of measured genes

Lower is better; a distribution that is too narrow is penalised as one beside y is. Of a single point it is the
distance. Embeddings are in standard deviations of the learning patients. Source: Gneiting and Raftery, JASA 2007.

Where the slide says nothing about the genes, samples for the slide of another patient are as good as for the patient's
own: a completion cannot add information about the patient, it states what is not known.

Shape legend: s samples, n patients, d width of the embeddings.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dml.config import params as config
from dml.core.device import torch_threads
from dml.core.errors import ConfigError
from dml.data.batches import make_batches
from dml.evaluation.intervals import bootstrap_weights, difference, estimate, rounded
from dml.evaluation.metrics import Metric
from dml.models.completed_genes import CompletedGenesStudent
from dml.probes.fold_models import FoldModels


def energy_score(samples: Float[Tensor, "s n d"], observed: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """Return the energy score of each patient's samples.

    Examples
    --------
    Of two samples at -1 and 1 and an observation of 1: (2 + 0) / 2 - (0 + 2 + 2 + 0) / 8.

    >>> energy_score(torch.tensor([[[-1.0]], [[1.0]]]), torch.tensor([[1.0]])).tolist()
    [0.5]
    """
    error = (samples - observed).norm(dim=-1).mean(0)
    each = samples.transpose(0, 1)
    score: Tensor = error - torch.cdist(each, each).mean((1, 2)) / 2
    return score


def score_completion(folds: Sequence[FoldModels], settings: config.Evaluation, seed: int) -> dict[str, Any]:
    """Score the completion of the test patients with slide and transcriptome, mean over the members of each fold.

    Parameters
    ----------
    folds : sequence of FoldModels
        Whose students are trained with ``distillation.architecture: completed_genes``.
    settings : config.Evaluation
        Resamples and confidence.
    seed : int
        Of the resamples, and of whose slide is whose in the null.

    Returns
    -------
    dict
        ``patients``; ``energy_score`` with interval: of the ``samples``, of their ``mean`` as a point, of the samples
        for the slide of ``another`` patient; ``difference``: of the samples to the other two, paired; ``change``: mean
        distance between a patient's sample and that of another slide from the same noise.

    Raises
    ------
    ConfigError
        If a student does not complete genes, or a fold has fewer than two such patients.
    """
    parts = [_score_fold(one, seed) for one in folds]
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    fold = np.repeat([one.fold for one in folds], [len(part["samples"]) for part in parts])
    weights = bootstrap_weights(fold, settings.resamples, seed)
    metrics = {name: _mean(scores[name]) for name in ("samples", "mean", "another")}
    values = {name: estimate(metric, weights, settings.confidence) for name, metric in metrics.items()}
    gains = {
        name: difference(metrics["samples"], metrics[name], weights, settings.confidence)
        for name in ("mean", "another")
    }
    return {
        "patients": len(fold),
        "energy_score": {name: None if value is None else value.to_json() for name, value in values.items()},
        "difference": {name: None if gain is None else gain.to_json() for name, gain in gains.items()},
        "change": rounded(float(scores["change"].mean())),
    }


def _score_fold(one: FoldModels, seed: int) -> dict[str, np.ndarray]:
    """Scores of the test patients of one fold, by name (n)."""
    model = one.models["student"]
    read = model.reader(one.test)
    patients = [read(case) for case in one.test.cases if case.has_slide and case.has_expression]
    if len(patients) < 2:
        raise ConfigError(f"fold {one.fold} has {len(patients)} test patients with slide and genes; 2 are needed")
    order = np.random.default_rng([seed, one.fold]).permutation(len(patients))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    by_member: dict[str, list[np.ndarray]] = {}
    for member in model.members:
        if not isinstance(member, CompletedGenesStudent):
            raise ConfigError("the student is another: train it with distillation.architecture: completed_genes")
        with torch_threads(1), torch.inference_mode():
            batches = list(make_batches(patients, model.spec.preprocessor, 16))
            samples = torch.cat([member.sample_embeddings(batch) for batch in batches], dim=1)
            observed = torch.cat([member.measured_embeddings(batch) for batch in batches])
            samples, observed = ((x - member.centre) / member.deviation for x in (samples, observed))
            scores = {
                "samples": energy_score(samples, observed),
                "mean": energy_score(samples.mean(0, keepdim=True), observed),
                "another": energy_score(samples[:, other], observed),
                "change": (samples - samples[:, other]).norm(dim=-1).mean(0),
            }
        for name, values in scores.items():
            by_member.setdefault(name, []).append(values.double().numpy())
    return {name: np.mean(values, axis=0) for name, values in by_member.items()}


def _mean(scores: Float[np.ndarray, "n"]) -> Metric:
    return lambda weights: weights @ scores / weights.sum(axis=1)
