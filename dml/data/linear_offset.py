"""Apply a linear offset: the prediction of a penalised linear model that is added to a network's logits.

    offset_i = slope * v * mean_j LP_j(x_i)     LP_j: linear predictor fitted on all inner folds but j

A training patient of inner fold j has the offset slope * LP_j alone: no patient's offset was fitted on its own outcome.
The slope was fitted on these single predictors. Their mean varies less and has the same covariance with the outcome, so
that its slope is larger by v = var LP_j / var mean_j LP_j, which needs no outcome.
How the models are fitted is in `dml.training.fit_offset`.

Shape legend: n patients, c columns, k outputs (1 for survival: the same shift of the log-odds of every bin).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict

from dml.core.types import Source
from dml.data.vectors import Matrix, Vector

SourceRows = Mapping[Source, np.ndarray]
"""Per source one row a patient [n c], all NaN for a patient that lacks it."""


def has_values(rows: np.ndarray) -> Bool[np.ndarray, "n"]:
    """Return which patients have a source at all."""
    present: np.ndarray = np.isfinite(rows).any(axis=1)
    return present


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

    def __call__(self, rows: SourceRows) -> np.ndarray:
        """Return [n k]."""
        return np.asarray(sum((self.maps[source](rows[source]) for source in self.maps), self.bias))


class LinearOffset(BaseModel):
    """Linear models by the sources they need, one per inner fold left out; of each patient the one with most sources.

    Attributes
    ----------
    models : mapping
        "slide+genes", "slide", "genes" to the models, one per inner fold.
    slopes : mapping
        The same names to the factor on their predictions.
    outputs : int
        Columns of an offset.
    variance_ratios : mapping
        The same names to the ratio v of the variance of one model to that of their mean; 1 where there is none.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    models: Mapping[str, tuple[LinearModel, ...]]
    slopes: Mapping[str, float]
    outputs: int
    variance_ratios: Mapping[str, float] = {}

    def __call__(self, rows: SourceRows, inner_folds: Sequence[int | None]) -> np.ndarray:
        """Return the offset of each patient, float32 [n k]; 0 for one without any of the sources.

        Parameters
        ----------
        rows : mapping
            Source to raw values [n c].
        inner_folds : sequence of int or None
            The inner fold of a training patient, None for anyone else.
        """
        offset = np.zeros((len(inner_folds), self.outputs), np.float32)
        names = self.choose(rows)
        for name, models in self.models.items():
            chosen = names == name
            outputs = np.stack([model({source: rows[source][chosen] for source in model.maps}) for model in models])
            folds = [fold for fold, is_chosen in zip(inner_folds, chosen, strict=True) if is_chosen]
            cross_fitted = [
                self.variance_ratios.get(name, 1.0) * outputs[:, i].mean(0)
                if fold is None
                else outputs[fold % len(outputs), i]
                for i, fold in enumerate(folds)
            ]
            if cross_fitted:
                offset[chosen] = self.slopes[name] * np.array(cross_fitted)
        return offset

    def of_sources(self, name: str) -> "LinearOffset | None":
        """Return the part of the models of some sources ("slide"), which others are not needed for; None without."""
        if name not in self.models:
            return None
        parts = ("models", "slopes", "variance_ratios")
        update = {part: {k: v for k, v in getattr(self, part).items() if k == name} for part in parts}
        return self.model_copy(update=update)

    def mean_slope(self, name: str) -> float:
        """Return the factor on the mean of the linear models of some sources."""
        return self.slopes[name] * self.variance_ratios.get(name, 1.0)

    def choose(self, rows: SourceRows) -> np.ndarray:
        """Return for each patient the name of the models of most sources that it has; '' without any of them."""
        names = np.full(len(next(iter(rows.values()))), "", dtype=object)
        for name, models in self._most_sources_first():
            names[(names == "") & np.all([has_values(rows[source]) for source in models[0].maps], axis=0)] = name
        return names

    def _most_sources_first(self) -> list[tuple[str, tuple[LinearModel, ...]]]:
        """Sort the models: a file keeps no order of keys."""
        return sorted(self.models.items(), key=lambda item: (-len(item[1][0].maps), item[0]))
