"""Fit a linear offset for the logits: ridge-penalised Cox, logistic or linear models on principal components.

The offset is cross-fitted: LP_j is fitted on all inner folds of a fold but j, and a training patient of inner fold j
has the offset of LP_j alone, so that no training patient's offset uses its own outcome. LP_j is the sum of a model of
all sources together and, where there are two, of one of each alone; their weights, fitted on these cross-fitted
predictions, leave out a source that does not generalise. It is applied in `dml.data.linear_offset`.
Sources: wide & deep learning (Cheng et al. 2016), stacking with non-negative weights (Wolpert 1992, Breiman 1996),
calibration slope (van Houwelingen 2000).

Shape legend: n patients, c columns, k outputs (1 for survival: the same shift of the log-odds of every bin).
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from torch.nn import functional

from dml.core.errors import InputError
from dml.core.types import Case, Source, Survival
from dml.data.linear_offset import LinearMap, LinearModel, LinearOffset, SourceRows, has_values
from dml.data.preprocessing import WINSOR_QUANTILE, Preprocessor
from dml.data.target_scale import TargetScale
from dml.linear_models.cox import Cox
from dml.linear_models.design_matrix import Reduction
from dml.linear_models.logistic import Logistic
from dml.linear_models.ridge import Ridge
from dml.training.losses import cox_loss

log = logging.getLogger(__name__)

SOURCES: Mapping[tuple[Source, ...], tuple[tuple[Source, ...], ...]] = {
    ("slide", "genes"): (("slide", "genes"), ("slide",), ("genes",)),
    ("slide",): (("slide",),),
    ("slide", "clinical"): (("slide", "clinical"), ("slide",)),
}
"""Inputs of a network to the sources of its linear models, most sources first."""
PENALTY = 0.1
"""Ridge penalty on the coefficients of components of unit variance."""
MAX_WEIGHT, WEIGHT_DEVIATION = 1.5, 0.5
"""Largest weight of a linear model in the sum, and the prior standard deviation of the weights."""
PATIENTS_PER_COMPONENT, MAX_COMPONENTS = 3, 15
"""Where the number of components is not given."""
MIN_PATIENTS = 30
"""Training patients with a source below which no linear model of it is fitted."""


class SurvivalOutcomes:
    """Follow-up in days and whether death was observed; `known` is False where there is none."""

    n_outputs = 1

    def __init__(self, follow_up: Sequence[Survival | None]) -> None:
        self.known = np.array([s is not None for s in follow_up])
        self.days = np.array([0.0 if s is None else s.days for s in follow_up])
        self.event = np.array([s is not None and s.event for s in follow_up])

    def fit(self, columns: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weight [c k] and bias [k] of a Cox model of the patients in `mask`."""
        cox = Cox.fit(columns, self.days[mask], self.event[mask], PENALTY).fitted
        weight = np.asarray(cox.params_, float)[:, None]
        return weight, -(columns.mean(0) @ weight)

    def loss(self, predictor: np.ndarray, mask: np.ndarray) -> float:
        """Return Cox's negative log partial likelihood, summed over the events."""
        risk, event = torch.from_numpy(predictor[mask])[:, 0], torch.from_numpy(self.event[mask])
        return float(event.sum() * cox_loss(risk, torch.from_numpy(self.days[mask]), event))


class ClassOutcomes:
    """Class index of a label; `known` is False where there is none."""

    def __init__(self, labels: Sequence[str | None], classes: Sequence[str]) -> None:
        self.classes, self.n_outputs = tuple(classes), len(classes)
        self.known = np.array([label is not None for label in labels])
        self.label = np.array([0 if label is None else self.classes.index(label) for label in labels])

    def fit(self, columns: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weight [c k] and bias [k] of a multinomial logistic regression of the patients in `mask`."""
        fitted = Logistic.fit(columns, self.label[mask], self.classes, PENALTY).fitted
        if len(fitted.classes_) < len(self.classes):
            raise InputError("linear offset", "a class is missing from an inner fold", "Use fewer folds")
        weight, bias = fitted.coef_, fitted.intercept_
        if len(self.classes) == 2:
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return weight.T, bias

    def loss(self, predictor: np.ndarray, mask: np.ndarray) -> float:
        """Return the cross-entropy in which every class has the same weight, summed over patients."""
        label = torch.from_numpy(self.label[mask])
        weights = len(label) / (len(self.classes) * torch.bincount(label, minlength=len(self.classes)).double())
        mean = functional.cross_entropy(torch.from_numpy(predictor[mask]), label, weight=weights)
        return float(len(label) * mean)


class NumberOutcomes:
    """Standardised numbers; `known` is False where there is none. The offset moves the first of `n_outputs` alone."""

    def __init__(self, values: Sequence[float | None], scale: TargetScale, n_outputs: int) -> None:
        self.known, self.n_outputs = np.array([value is not None for value in values]), n_outputs
        self.value = scale(np.array([scale.mean if value is None else value for value in values]))

    def fit(self, columns: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weight [c k] and bias [k] of a ridge regression of the patients in `mask`; 0 but for the first."""
        ridge = Ridge.fit(columns, self.value[mask], PENALTY)
        weight, bias = np.zeros((columns.shape[1], self.n_outputs)), np.zeros(self.n_outputs)
        weight[:, 0], bias[0] = ridge.coefficients, ridge.intercept
        return weight, bias

    def loss(self, predictor: np.ndarray, mask: np.ndarray) -> float:
        """Return half the sum of squared errors."""
        return float(np.square(self.value[mask] - predictor[mask, 0]).sum() / 2)


Outcomes = SurvivalOutcomes | ClassOutcomes | NumberOutcomes


def read_outcomes(cases: Sequence[Case], preprocessor: Preprocessor) -> Outcomes:
    """Return what was observed of some patients, in arrays."""
    task = preprocessor.task
    if task.kind == "survival":
        return SurvivalOutcomes([case.survival for case in cases])
    if task.kind == "regression":
        numbers = [case.values.get(task.name) for case in cases]
        return NumberOutcomes(numbers, preprocessor.target_scale, preprocessor.dims.outputs)
    return ClassOutcomes([case.labels.get(task.name) for case in cases], task.classes)


def fit_linear_offset(
    rows: SourceRows,
    inner_folds: Sequence[int],
    sources: Sequence[tuple[Source, ...]],
    outcomes: Outcomes,
    components: int | None,
) -> LinearOffset:
    """Fit on the training patients of a fold.

    Parameters
    ----------
    rows : mapping
        Source to raw values [n c].
    inner_folds : sequence of int
        Inner fold of each patient.
    sources : sequence of tuples
        Combinations of sources to fit, most sources first.
    outcomes : Outcomes
        What was observed.
    components : int or None
        Principal components of each source; None: one for three patients, at most 15.
    """
    inner_fold, n_inner_folds = np.array(inner_folds), max(inner_folds) + 1
    models: dict[str, tuple[LinearModel, ...]] = {}
    slopes: dict[str, float] = {}
    ratios: dict[str, float] = {}
    for combination in sources:
        complete = outcomes.known & np.all([has_values(rows[source]) for source in combination], axis=0)
        name = "+".join(combination)
        count = components or min(max(int(complete.sum()) // PATIENTS_PER_COMPONENT, 1), MAX_COMPONENTS)
        try:
            fitted = [
                _fit_parts(rows, complete & (inner_fold != j), combination, outcomes, count)
                for j in range(n_inner_folds)
            ]
        except InputError as error:
            log.info("no linear offset from %s: %s", name, error)
            continue
        cross_fitted = np.zeros((len(fitted[0]), len(inner_fold), outcomes.n_outputs))
        for j, parts in enumerate(fitted):
            validated = complete & (inner_fold == j)
            cross_fitted[:, validated] = [part({s: rows[s][validated] for s in part.maps}) for part in parts]
        weights = _fit_weights(cross_fitted, complete, outcomes)
        slopes[name] = float(weights.sum())
        models[name] = tuple(_join(parts, weights / max(slopes[name], 1e-6)) for parts in fitted)
        ratios[name] = _variance_ratio(models[name], {source: rows[source][complete] for source in combination})
        log.info("linear offset from %s: %d patients, weights %s", name, complete.sum(), np.round(weights, 2))
    return LinearOffset(models=models, slopes=slopes, outputs=outcomes.n_outputs, variance_ratios=ratios)


def _variance_ratio(models: Sequence[LinearModel], rows: SourceRows) -> float:
    """Return how much more one model's predictions vary among patients than the mean of all models', at least 1."""
    each = np.stack([model(rows) for model in models])  # j n k
    single, mean = float(each.var(axis=1).mean(0).sum()), float(each.mean(0).var(axis=0).sum())
    return max(single / mean, 1.0) if mean > 0 else 1.0


def _fit_weights(
    predictors: Float[np.ndarray, "p n k"], mask: Bool[np.ndarray, "n"], outcomes: Outcomes
) -> Float[np.ndarray, "p"]:
    """Return the non-negative weights under which the sum of cross-fitted predictors is most likely a posteriori.

    A priori a single predictor has weight 1, and of several each has 1/2: the sum of those of one source each is about
    that of all sources together.
    """
    expected = np.full(len(predictors), 1.0 if len(predictors) == 1 else 0.5)

    def objective(weights: np.ndarray) -> float:
        loss = outcomes.loss(np.tensordot(weights, predictors, axes=1), mask)
        return float(loss + np.square(weights - expected).sum() / (2 * WEIGHT_DEVIATION**2))

    fitted = minimize(objective, expected, method="L-BFGS-B", bounds=[(0.0, MAX_WEIGHT)] * len(predictors))
    return np.asarray(fitted.x, float)


def _fit_parts(
    rows: SourceRows,
    mask: Bool[np.ndarray, "n"],
    combination: Sequence[Source],
    outcomes: Outcomes,
    components: int,
) -> list[LinearModel]:
    """Fit a model of all sources of a combination, and one of each alone if there are several, on the same patients."""
    if mask.sum() < MIN_PATIENTS:
        problem = f"{mask.sum()} patients have {' and '.join(combination)}, fewer than {MIN_PATIENTS}"
        raise InputError("linear offset", problem, "Set model.linear_offset.components: 0")
    reductions = {s: Reduction.fit(rows[s][mask], components, WINSOR_QUANTILE) for s in combination}
    blocks = {s: reductions[s](rows[s][mask]) for s in combination}
    alone = [(source,) for source in combination] if len(combination) > 1 else []
    return [_fit_model(reductions, {s: blocks[s] for s in part}, mask, outcomes) for part in [combination, *alone]]


def _fit_model(
    reductions: Mapping[Source, Reduction],
    blocks: Mapping[Source, np.ndarray],
    mask: Bool[np.ndarray, "n"],
    outcomes: Outcomes,
) -> LinearModel:
    weight, bias = outcomes.fit(np.concatenate(list(blocks.values()), axis=1), mask)
    maps, start = {}, 0
    for source, block in blocks.items():
        maps[source] = _compose(reductions[source], weight[start : start + block.shape[1]])
        start += block.shape[1]
    return LinearModel(maps=maps, bias=bias)


def _join(parts: Sequence[LinearModel], weights: Float[np.ndarray, "p"]) -> LinearModel:
    """Return the weighted sum of models that scale their sources alike; the first has all sources."""
    maps = {}
    for source, first in parts[0].maps.items():
        each = [w * part.maps[source].weight for part, w in zip(parts, weights, strict=True) if source in part.maps]
        maps[source] = first.model_copy(update={"weight": np.sum(each, axis=0)})
    bias = np.sum([w * part.bias for part, w in zip(parts, weights, strict=True)], axis=0)
    return LinearModel(maps=maps, bias=bias)


def _compose(reduction: Reduction, weight: np.ndarray) -> LinearMap:
    """Multiply scaling, rotation and coefficients into one matrix."""
    low, high = reduction.limits if reduction.limits is not None else (-np.inf, np.inf)
    scale = np.where(np.isfinite(reduction.deviation), 1 / reduction.deviation, 0.0)
    return LinearMap(low=low, high=high, mean=reduction.mean, weight=scale[:, None] * (reduction.rotation @ weight))
