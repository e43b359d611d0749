"""Where a network starts from: a penalised linear model of the same patients, so that depth only has to add to it.

    start_i = slope * mean_j LP_j(x_i)         LP: Cox or multinomial logistic on principal components, ridge

x is the mean token of each magnification, the transcriptome, or both, whichever a patient has. LP_j is fitted on all
inner parts of a fold but j, and a learning patient of part j starts from LP_j alone, so that no patient's start has
seen his own outcome; the slope, fitted on these, shrinks a start that does not hold up. Others: the mean over j.
Sources: wide & deep learning (Cheng et al. 2016), stacking (Wolpert 1992), calibration slope (van Houwelingen 2000).

Shape legend: n patients, c columns, k outputs (1 for survival: the same shift of the log-odds of every bin).
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator
from torch import Tensor
from torch.nn import functional

from dml.core.errors import InputError
from dml.core.types import Case
from dml.data.preprocessing import WINSORISED, Preprocessor, Vector
from dml.models.linear.cox import Cox
from dml.models.linear.design_matrix import Reduction
from dml.models.linear.logistic import Logistic
from dml.training.losses import cox_loss

log = logging.getLogger(__name__)

Source = Literal["slide", "genes"]
COMBINATIONS: Mapping[str, tuple[tuple[Source, ...], ...]] = {
    "teacher": (("slide", "genes"), ("slide",), ("genes",)),
    "student": (("slide",),),
}
"""Sources of the linear models that ours may start from, the richest first."""
Rows = Mapping[Source, np.ndarray]
"""Per source one row a patient, all NaN for a patient that lacks it."""
Matrix = Annotated[
    np.ndarray,
    PlainValidator(lambda v: np.asarray(v, dtype=np.float32)),
    PlainSerializer(lambda v: [[float(x) for x in row] for row in v], return_type=list[list[float]]),
]
PENALTY = 0.1
"""Ridge penalty on the coefficients of components of unit variance."""
SLOPES = np.linspace(0.0, 1.5, 31)
FEWEST = 30
"""Learning patients with a source below which no linear model of it is fitted."""


class LinearMap(BaseModel):
    """One source's part of a linear predictor; a missing value counts as the training mean."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    low: Vector
    high: Vector
    mean: Vector
    weight: Matrix

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return [n k]."""
        shifted = np.clip(rows, self.low, self.high) - self.mean
        return np.asarray(np.where(np.isfinite(shifted), shifted, 0.0) @ self.weight)


class LinearModel(BaseModel):
    """A linear predictor of some sources."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    maps: Mapping[Source, LinearMap]
    bias: Vector

    def __call__(self, rows: Rows) -> np.ndarray:
        """Return [n k]."""
        return np.asarray(sum((self.maps[source](rows[source]) for source in self.maps), self.bias))


class LinearOffset(BaseModel):
    """Linear models by the sources they need, one per inner part left out; the richest that a patient has speaks."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    models: Mapping[str, tuple[LinearModel, ...]]
    slopes: Mapping[str, float]
    outputs: int

    def __call__(self, rows: Rows, parts: Sequence[int | None]) -> np.ndarray:
        """Return where each patient starts, float32 [n k]; 0 for one without any of the sources.

        Parameters
        ----------
        rows : mapping
            Source to raw values [n c].
        parts : sequence of int or None
            The inner part of a learning patient, None for anyone else.
        """
        start = np.zeros((len(parts), self.outputs), np.float32)
        open_ = np.ones(len(parts), bool)
        for name, models in self._richest_first():
            mine = open_ & np.all([_present(rows[source]) for source in models[0].maps], axis=0)
            said = np.stack([model({source: rows[source][mine] for source in model.maps}) for model in models])
            own = [part for part, is_mine in zip(parts, mine, strict=True) if is_mine]
            chosen = [said[:, i].mean(0) if part is None else said[part % len(said), i] for i, part in enumerate(own)]
            if chosen:
                start[mine] = self.slopes[name] * np.array(chosen)
            open_ &= ~mine
        return start

    def _richest_first(self) -> list[tuple[str, tuple[LinearModel, ...]]]:
        """Order the models by themselves: a file keeps no order of keys."""
        return sorted(self.models.items(), key=lambda item: (-len(item[1][0].maps), item[0]))


def fit_linear_offset(
    rows: Rows,
    parts: Sequence[int],
    sources: Sequence[tuple[Source, ...]],
    truth: "Truth",
    components: int,
) -> LinearOffset:
    """Fit on the learning patients of a fold.

    Parameters
    ----------
    rows : mapping
        Source to raw values [n c] of the learning patients.
    parts : sequence of int
        Inner part of each.
    sources : sequence of tuples
        Which combinations to fit, the richest first.
    truth : Truth
        What was observed.
    components : int
        Principal components of each source.
    """
    part, turns = np.array(parts), max(parts) + 1
    models: dict[str, tuple[LinearModel, ...]] = {}
    slopes: dict[str, float] = {}
    for combination in sources:
        whole = truth.known & np.all([_present(rows[source]) for source in combination], axis=0)
        name = "+".join(combination)
        try:
            fitted = tuple(_fitted(rows, whole & (part != j), combination, truth, components) for j in range(turns))
        except InputError as error:
            log.info("no linear start from %s: %s", name, error)
            continue
        crossed = np.zeros((len(part), truth.outputs))
        for j, model in enumerate(fitted):
            mine = whole & (part == j)
            crossed[mine] = model({source: rows[source][mine] for source in combination})
        models[name], slopes[name] = fitted, truth.slope(crossed, whole)
        log.info("linear start from %s: %d patients, slope %.2f", name, whole.sum(), slopes[name])
    return LinearOffset(models=models, slopes=slopes, outputs=truth.outputs)


class Truth:
    """What was observed of the learning patients: survival (days, event) or a class index; `known` says of whom."""

    def __init__(
        self,
        known: np.ndarray,
        days: np.ndarray | None = None,
        event: np.ndarray | None = None,
        label: np.ndarray | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.known, self.days, self.event, self.label, self.classes = known, days, event, label, tuple(classes)
        self.outputs = len(self.classes) or 1

    def fit(self, columns: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weight [c k] and bias [k] of a penalised linear predictor."""
        if self.label is not None:
            fitted = Logistic.fit(columns, self.label[where], self.classes, PENALTY).fitted
            if len(fitted.classes_) < len(self.classes):
                raise InputError("linear start", "a class is missing from an inner part", "Use fewer folds")
            weight, bias = fitted.coef_, fitted.intercept_
            if len(self.classes) == 2:
                weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
            return weight.T, bias
        assert self.days is not None
        assert self.event is not None
        cox = Cox.fit(columns, self.days[where], self.event[where], PENALTY).fitted
        weight = np.asarray(cox.params_, float)[:, None]
        return weight, -(columns.mean(0) @ weight)

    def slope(self, predictor: np.ndarray, where: np.ndarray) -> float:
        """Return the factor in [0, 1.5] under which a cross-fitted predictor is most likely."""
        said = torch.from_numpy(predictor[where])
        losses = [float(self._loss(slope * said, where)) for slope in SLOPES]
        return float(SLOPES[int(np.argmin(losses))])

    def _loss(self, said: Tensor, where: np.ndarray) -> Tensor:
        if self.label is not None:
            label = torch.from_numpy(self.label[where])
            weights = len(label) / (len(self.classes) * torch.bincount(label, minlength=len(self.classes)).double())
            return functional.cross_entropy(said, label, weight=weights)
        assert self.days is not None
        assert self.event is not None
        return cox_loss(said[:, 0], torch.from_numpy(self.days[where]), torch.from_numpy(self.event[where]))


def _fitted(rows: Rows, where: np.ndarray, combination: Sequence[Source], truth: Truth, components: int) -> LinearModel:
    if where.sum() < FEWEST:
        found = f"{where.sum()} patients have {' and '.join(combination)}, fewer than {FEWEST}"
        raise InputError("linear start", found, "Set model.linear_offset.components: 0")
    reductions = {s: Reduction.fit(rows[s][where], components, WINSORISED) for s in combination}
    blocks = [reductions[s](rows[s][where]) for s in combination]
    weight, bias = truth.fit(np.concatenate(blocks, axis=1), where)
    maps, at = {}, 0
    for source, block in zip(combination, blocks, strict=True):
        maps[source] = _composed(reductions[source], weight[at : at + block.shape[1]])
        at += block.shape[1]
    return LinearModel(maps=maps, bias=bias)


def _composed(reduction: Reduction, weight: np.ndarray) -> LinearMap:
    """Fold scaling, rotation and coefficients into one matrix."""
    low, high = reduction.limits if reduction.limits is not None else (-np.inf, np.inf)
    scale = np.where(np.isfinite(reduction.deviation), 1 / reduction.deviation, 0.0)
    return LinearMap(low=low, high=high, mean=reduction.mean, weight=scale[:, None] * (reduction.rotation @ weight))


def _present(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.isfinite(rows).any(axis=1)
    return found


def truth_of(cases: Sequence[Case], preprocessor: Preprocessor) -> Truth:
    """Return what was observed of some patients, in arrays; 0 where it is not known."""
    if preprocessor.kind == "survival":
        known = np.array([c.survival is not None for c in cases])
        days = np.array([0.0 if c.survival is None else c.survival.days for c in cases])
        return Truth(known, days, np.array([c.survival is not None and c.survival.event for c in cases]))
    labels = [c.labels.get(preprocessor.task) for c in cases]
    index = np.array([0 if label is None else preprocessor.classes.index(label) for label in labels])
    return Truth(np.array([label is not None for label in labels]), label=index, classes=preprocessor.classes)
