"""Level, and level and slope, of a fold's networks: fitted to new patients, kept in the last layer.

    logits = b + a + w (logits_champion - b)        b: base rates of the champion

Level fits a alone (w = 1). The result is a network of the same architecture, so that packing, serving and attribution
need not know of it. Sources: van Houwelingen, Statistics in Medicine 2000; Steyerberg et al., Statistics in Medicine
2004 (shrinkage and updating).

Shape legend: n patients, k outputs.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from dml.core.device import torch_threads
from dml.core.types import Cohort, Target
from dml.data.batches import make_batches, make_target
from dml.data.patient_reader import Patient
from dml.models.likelihoods import log_likelihood
from dml.training.checkpoint import FoldModel
from dml.training.out_of_fold import shrink
from dml.training.shrinkage import Shrinkage

LEVEL_DEVIATION, SLOPE_DEVIATION = 2.0, 0.5
"""Prior standard deviations of a and of w around 0 and 1: weak, so that few events do not move a model far."""


def recalibrate_network(champion: FoldModel, learning: Cohort, with_slope: bool) -> FoldModel:
    """Fit level (and slope) of one fold's model to the patients of a cohort whose outcome is known."""
    spec = champion.spec
    read = champion.reader(learning)
    patients = [read(case) for case in learning.cases if spec.accepts(case) and spec.preprocessor.task.is_known(case)]
    logits, target = mean_logits(champion, patients), make_target(patients, spec.preprocessor)
    base = torch.from_numpy(np.asarray(spec.preprocessor.base_logits))
    shrinkage = fit_level(logits, base, target, with_slope)
    moved = FoldModel(spec, copy.deepcopy(champion.members))
    if spec.linear_offset is not None:
        return shrink(moved, shrinkage, spec.linear_offset)
    for member in moved.members:
        shrinkage.apply(member, base)
    return moved


@torch_threads(1)
@torch.inference_mode()
def mean_logits(model: FoldModel, patients: Sequence[Patient]) -> Float[Tensor, "n k"]:
    """Return the mean logits of a model's members, offset included."""
    batches = make_batches(patients, model.spec.preprocessor, 16)
    return torch.cat([torch.stack([member(batch).logits for member in model.members]).mean(0) for batch in batches])


def fit_level(logits: Float[Tensor, "n k"], base: Float[Tensor, "k"], target: Target, with_slope: bool) -> Shrinkage:
    """Fit the change of level, and with `with_slope` the factor on the logits.

    Hazards of all bins have one level; classes and the parameters of a number's distribution have one each.
    """
    centred, base = logits.double().clone() - base.double(), base.double()
    levels = 1 if target.kind == "survival" else len(base)

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        values = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        slope = values[0] if with_slope else torch.ones((), dtype=torch.float64)
        fitted = base + values[1:] + slope * centred
        prior = values[1:].square().sum() / (2 * LEVEL_DEVIATION**2) + (values[0] - 1) ** 2 / (2 * SLOPE_DEVIATION**2)
        loss = prior - log_likelihood(fitted, target).sum()
        (gradient,) = torch.autograd.grad(loss, values)
        return float(loss.detach()), gradient.numpy()

    bounds = [(0.0, None), *[(None, None)] * levels]
    slope, *level = minimize(evaluate, [1.0, *[0.0] * levels], jac=True, method="L-BFGS-B", bounds=bounds).x
    shift = torch.tensor(level, dtype=torch.float32).expand(len(base)).clone()
    return Shrinkage(float(slope), float(slope), shift)
