"""How well pairs that were not learned from are predicted: gene components, retrieval, and a ridge regression."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dml.data.gene_programs import GenePrograms
from dml.data.preprocessing import Preprocessor
from dml.linear_models.kernel_ridge import MIN_TRAINING_PATIENTS, KernelRidge
from dml.pretraining.network import PairEncoding
from dml.pretraining.pairs import Pair

RANK = 10
Programs = Mapping[str, GenePrograms]


def measure(encoding: PairEncoding, targets: Mapping[str, Float[Tensor, "n p"]]) -> dict[str, Any]:
    """Return the fit of the gene components of each subspace, and recall at 10 with its value by chance.

    Parameters
    ----------
    encoding : PairEncoding
        Of the held-out pairs.
    targets : mapping
        Subspace to the measured components: first the mean of the gene group, then principal components.

    Returns
    -------
    dict
        patients; per subspace ``r2`` and ``r`` of every component and ``r2_mean``; ``retrieval``: the share of patients
        whose own genes are among the ten most like their slide, the same from genes to slides, and by chance.
    """
    count = len(next(iter(targets.values())))
    result: dict[str, Any] = {"patients": count}
    for s, target in targets.items():
        result[s] = _fit(encoding.components[s].double().numpy(), target.double().numpy())
    similarity = torch.stack([slide @ encoding.genes[s].T for s, slide in encoding.slide.items()]).sum(0)
    result["retrieval"] = {
        "slide_to_genes": recall(similarity),
        "genes_to_slide": recall(similarity.T),
        "chance": min(RANK / count, 1.0),
        "rank": RANK,
    }
    return result


def linear_reference(
    training: Sequence[Pair], held_out: Sequence[Pair], preprocessors: Sequence[Preprocessor], programs: Programs
) -> dict[str, Any]:
    """Return the fit of the same components by ridge regressions on mean tokens.

    ``own_cohort`` is fitted on training pairs of the cohort that is trained for, ``all_cohorts`` on all of them: what
    other cohorts bring to a linear model. A regression without pairs enough is left out.
    """
    columns = mean_tokens([*training, *held_out], preprocessors)
    learned, tested = columns[: len(training)], columns[len(training) :]
    result: dict[str, Any] = {}
    for name, limit in (("own_cohort", 1), ("all_cohorts", len(preprocessors))):
        chosen = np.array([pair.cohort < limit for pair in training], bool)
        if chosen.sum() < MIN_TRAINING_PATIENTS:
            continue
        result[name] = {}
        for s, program in programs.items():
            known, wanted = (
                program.standardise(np.array([getattr(pair.patient, s) for pair in pairs], float))
                for pairs in (training, held_out)
            )
            result[name][s] = _fit(KernelRidge.fit(learned[chosen], known[chosen])(tested), wanted)
    return result


def mean_tokens(pairs: Sequence[Pair], preprocessors: Sequence[Preprocessor]) -> Float[np.ndarray, "n c"]:
    """Return the mean scaled token of each pair at each magnification; that of its cohort where there is none."""
    rows = []
    for pair in pairs:
        scaling = preprocessors[pair.cohort].tokens
        bags = [level.tokens for level in pair.patient.levels]
        means = [bag.double().mean(0).numpy() if len(bag) else scaling.mean for bag in bags]
        rows.append(np.concatenate([(mean - scaling.mean) / scaling.deviation for mean in means]))
    return np.array(rows)


def recall(similarity: Float[Tensor, "n n"]) -> float:
    """Return the share of rows whose diagonal entry is among the ten largest; ties count against it.

    Examples
    --------
    >>> recall(torch.eye(20)), recall(-torch.eye(20)), recall(torch.zeros(20, 20))
    (1.0, 0.0, 0.0)
    """
    paired = similarity.diagonal()[:, None]
    rank = (similarity >= paired).sum(1)  # itself included
    return float((rank <= RANK).double().mean())


def _fit(predicted: Float[np.ndarray, "n p"], target: Float[np.ndarray, "n p"]) -> dict[str, Any]:
    total = ((target - target.mean(0)) ** 2).sum(0)
    r2 = 1 - ((target - predicted) ** 2).sum(0) / np.maximum(total, 1e-12)
    centred = predicted - predicted.mean(0)
    scale = np.sqrt(np.maximum((centred**2).sum(0) * total, 1e-24))
    r = (centred * (target - target.mean(0))).sum(0) / scale
    return {"r2_mean": float(r2.mean()), "r2": np.round(r2, 4).tolist(), "r": np.round(r, 4).tolist()}
