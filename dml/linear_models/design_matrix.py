"""Design matrix of a linear model: one vector per source, reduced to principal components of training patients.

Shape legend: n patients, c columns, k principal components.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from dml.core.types import CLINICAL, Case, Cohort, Source
from dml.data.preprocessing import WINSOR_QUANTILE, raise_small_deviations

MIN_DEVIATION = 1e-6


def source_matrix(cohort: Cohort, cases: Sequence[Case], source: Source) -> Float[np.ndarray, "n c"]:
    """Stack one source's vectors: mean-pooled tokens of all resolutions, genes of both groups, or age and sex.

    A missing value is NaN: a resolution without tokens, an unmeasured gene, an unknown age.
    """
    if source == "slide":
        return _mean_tokens(cases)
    if source == "genes":
        wanted = {*cohort.groups.tumor, *cohort.groups.tme}
        index = [i for i, gene in enumerate(cohort.genes) if gene in wanted]
        return np.array([np.asarray(case.expression, float)[index] for case in cases]).reshape(len(cases), len(index))
    return np.array([[case.covariates.get(name, np.nan) for name in CLINICAL] for case in cases], float)


def column_names(cohort: Cohort, source: Source) -> list[str]:
    """Names of the columns of genes or clinical data, for model.json; mean-pooled token dimensions have none."""
    if source == "genes":
        wanted = {*cohort.groups.tumor, *cohort.groups.tme}
        return [gene for gene in cohort.genes if gene in wanted]
    return list(CLINICAL) if source == "clinical" else []


@dataclass(frozen=True, slots=True)
class Reduction:
    """Standardise, fill missing values with the mean, rotate to principal components of unit variance.

    Without components, `rotation` ``[c k]`` only selects the columns that vary. Values are clipped to `limits`.
    """

    mean: Float[np.ndarray, "c"]
    deviation: Float[np.ndarray, "c"]
    rotation: Float[np.ndarray, "c k"]
    limits: Float[np.ndarray, "2 c"] | None = None

    @classmethod
    def fit(cls, values: Float[np.ndarray, "n c"], components: int | None, winsorise: float = 0.0) -> "Reduction":
        """Fit on training patients; constant or wholly missing columns are ignored.

        `winsorise` is the share of values at either end of each column that are clipped.
        """
        limits = np.nanquantile(values, [winsorise, 1 - winsorise], axis=0) if winsorise else None
        values = values if limits is None else np.clip(values, *limits)
        finite = np.isfinite(values)
        count = np.maximum(finite.sum(axis=0), 1)
        mean = np.where(finite, values, 0).sum(axis=0) / count
        variance = (np.where(finite, values - mean, 0) ** 2).sum(axis=0) / count
        deviation = np.where(variance > MIN_DEVIATION**2, np.sqrt(variance), np.inf)
        varying = np.flatnonzero(np.isfinite(deviation))
        if components is not None and len(varying):
            deviation = np.where(np.isfinite(deviation), raise_small_deviations(deviation), np.inf)
        scaled = np.ascontiguousarray(_standardise(values, mean, deviation, limits)[:, varying])
        directions = np.eye(len(varying)) if components is None else _principal_components(scaled, components)
        rotation = np.zeros((len(mean), directions.shape[1]))
        rotation[varying] = directions
        return cls(mean, deviation, rotation, limits)

    def __call__(self, values: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n k"]:
        """Apply to any patients."""
        return np.asarray(_standardise(values, self.mean, self.deviation, self.limits) @ self.rotation)

    def describe(self) -> dict[str, Any]:
        """Return the fitted numbers as JSON-able lists (an ignored column has deviation null)."""
        deviation = [value if np.isfinite(value) else None for value in self.deviation.tolist()]
        limits = None if self.limits is None else self.limits.tolist()
        fitted = {"mean": self.mean.tolist(), "deviation": deviation, "rotation": self.rotation.tolist()}
        return {**fitted, "limits": limits}


@dataclass(frozen=True, slots=True)
class DesignMatrix:
    """Columns of a linear model: the reductions of its sources, side by side."""

    reductions: Mapping[Source, Reduction]

    @classmethod
    def fit(cls, cohort: Cohort, cases: Sequence[Case], sources: Sequence[Source], components: int) -> "DesignMatrix":
        """Fit each source by itself, so that a thousand genes do not outweigh two hundred token dimensions."""
        counts = {source: None if source == "clinical" else components for source in sources}
        matrices = {source: source_matrix(cohort, cases, source) for source in sources}
        quantiles = {"genes": WINSOR_QUANTILE}
        return cls({s: Reduction.fit(matrices[s], counts[s], quantiles.get(s, 0.0)) for s in sources})

    def __call__(self, cohort: Cohort, cases: Sequence[Case]) -> Float[np.ndarray, "n k"]:
        """Columns of some patients, all of whom have every source."""
        parts = [reduce(source_matrix(cohort, cases, source)) for source, reduce in self.reductions.items()]
        return np.concatenate([np.zeros((len(cases), 0)), *parts], axis=1)


def _mean_tokens(cases: Sequence[Case]) -> np.ndarray:
    widths = {float(mpp): bag.tokens.shape[1] for case in cases for mpp, bag in case.bags.items()}
    rows = []
    for case in cases:
        by_mpp = {float(mpp): bag for mpp, bag in case.bags.items() if len(bag)}
        means = [
            by_mpp[mpp].tokens.double().mean(dim=0).numpy() if mpp in by_mpp else np.full(width, np.nan)
            for mpp, width in sorted(widths.items())
        ]
        rows.append(np.concatenate(means))
    return np.array(rows)


def _standardise(values: np.ndarray, mean: np.ndarray, deviation: np.ndarray, limits: np.ndarray | None) -> np.ndarray:
    scaled = ((values if limits is None else np.clip(values, *limits)) - mean) / deviation
    return np.where(np.isfinite(scaled), scaled, 0.0)


def _principal_components(standardised: np.ndarray, components: int) -> np.ndarray:
    """Rotate to unit variance; signs are fixed so that equal data give equal numbers."""
    _, size, directions = np.linalg.svd(standardised - standardised.mean(axis=0), full_matrices=False)
    number = min(components, int((size > size.max(initial=0) * 1e-9).sum()), max(len(standardised) - 1, 1))
    if not number or not standardised.shape[1]:
        return np.zeros((standardised.shape[1], 0))
    directions, size = directions[:number], size[:number]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    return np.asarray((directions * np.sign(largest)).T / (size / np.sqrt(len(standardised))))
