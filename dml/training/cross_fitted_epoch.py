"""Out-of-fold predictions of a member whose epoch was not chosen on the patients that are predicted.

The loss of the best epoch flatters: the epoch was chosen on the same patients, and the more an epoch's loss varies, the
lower its minimum. Here the validation patients are divided into halves A and B: those of A are predicted at the epoch
that is best on B, those of B at the epoch that is best on A. No patient is lost for training, and no training is added.
Source: cross-fitting of a selection step, as in nested cross-validation (Varma and Simon 2006).

Shape legend: e epochs, n validation patients, k outputs.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dml.core.types import ClassTarget, SurvivalTarget, Target
from dml.models.likelihoods import log_likelihood


def cross_stop(logits: Float[Tensor, "e n k"], target: Target, seed: int) -> Float[Tensor, "n k"]:
    """Return each patient's outputs at the epoch that is best for the other half of the patients.

    A single patient is predicted after the last epoch.

    Parameters
    ----------
    logits : Tensor, e n k
        Outputs for the validation patients after each epoch.
    target : Target
        What was observed of them.
    seed : int
        Of the halves.

    Examples
    --------
    >>> target = ClassTarget(torch.tensor([0, 0]), torch.tensor([True, True]))
    >>> right, wrong = [4.0, 0.0], [0.0, 4.0]
    >>> cross_stop(torch.tensor([[right, wrong], [wrong, right]]), target, seed=1).argmax(1).tolist()
    [1, 1]
    """
    half = divide(strata_of(target), seed)
    likelihood = torch.stack([log_likelihood(epoch, target) for epoch in logits])  # e n
    result = logits[-1].clone()
    for part in (half, ~half):
        if part.any() and (~part).any():
            result[part] = logits[int(likelihood[:, ~part].mean(1).argmax())][part]
    return result


def strata_of(target: Target) -> list[Hashable]:
    """Return what patients of both halves should have alike: whether death was observed, or the class."""
    if isinstance(target, SurvivalTarget):
        return list(target.event.tolist())
    return list(target.label.tolist()) if isinstance(target, ClassTarget) else [0] * len(target.known)


def divide(strata: Sequence[Hashable], seed: int) -> Bool[Tensor, "n"]:
    """Divide patients into halves at random, those of a stratum evenly; strata take turns in who gets the odd one."""
    random, half, start = np.random.default_rng(seed), torch.zeros(len(strata), dtype=torch.bool), 0
    values = np.array([sorted(set(strata), key=str).index(value) for value in strata], dtype=int)
    for value in np.unique(values):
        members = random.permutation(np.flatnonzero(values == value))
        half[torch.from_numpy(members)] = (torch.arange(len(members)) + start) % 2 == 1
        start += len(members)
    return half
