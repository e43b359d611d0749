"""How well a pretrained network does on pairs it did not learn from: gene components from slides, and retrieval."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dml.pretraining.network import PairEncoding

RANK = 10


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
