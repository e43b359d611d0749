"""Comparisons of maps with measurements over the sections of a cohort: value, interval, and p-values of a table.

A statistic is the mean over sections, each with its own ranks. A draw of the null moves all sections of one patient at
once, those of each patient by a move of their own, the same for all comparisons; the blocks of an interval are drawn in
all sections of a patient, too. So cuts of one block do not count as independent. An interval covers other places of the
same tissue, not other patients.

Shape legend: n spots, b resamples, d draws.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from dml.core.errors import InputError
from dml.evaluation.intervals import rounded
from dml.spatial.null import MIN_OVERLAP, Moves, draw_moves, null_correlations
from dml.spatial.spot_grid import SpotGrid, block_weights
from dml.spatial.statistics import auc, interval, p_values, spearman, table_p_values

Statistic = Literal["spearman", "auc"]
CHANCE: Mapping[str, float] = {"spearman": 0.0, "auc": 0.5}
"""Value of a statistic without association."""
MIN_SPOTS = 20
"""Least spots of a section with both values."""
MIN_CLASS_SPOTS = 5
"""Least spots of a section inside a region, and outside of it."""


@dataclass(frozen=True, slots=True)
class SpotSection:
    """Spots of one section (n) of a patient: their grid, and a column a map or measurement, NaN where missing."""

    section_id: str
    patient_id: str
    grid: SpotGrid
    values: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of a table: a map against a measurement (for an AUC 0 or 1), or the difference of two maps against it."""

    map: str
    measurement: str
    statistic: Statistic = "spearman"
    less: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Draws of the null, resamples of blocks, their side in spots, confidence of intervals, seed, least overlap."""

    draws: int = 999
    resamples: int = 1000
    block: int = 4
    confidence: float = 0.95
    seed: int = 0
    min_overlap: float = MIN_OVERLAP


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """A statistic of one map and one measurement in one section: its value, null (d) and resamples (b)."""

    value: float
    correlation: float
    null: Float[np.ndarray, "d"]
    resampled: Float[np.ndarray, "b"]
    spots: int


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """A comparison over all sections; `sections` has the value of each, `p_table` is corrected over the table."""

    comparison: Comparison
    value: float
    low: float
    high: float
    p: float
    p_table: float
    draws: int
    spots: int
    sections: Mapping[str, float]

    @property
    def shown(self) -> bool:
        """Whether the corrected p-value is below 0.05 and the interval does not cover chance."""
        chance = 0.0 if self.comparison.less else CHANCE[self.comparison.statistic]
        return bool(self.p_table < 0.05 and (self.low > chance or self.high < chance))

    def to_json(self) -> dict[str, Any]:
        """Return a row of ``spatial.json``."""
        named = {name: getattr(self.comparison, name) for name in ("map", "less", "measurement", "statistic")}
        numbers = {"value": self.value, "ci_low": self.low, "ci_high": self.high, "p": self.p, "p_table": self.p_table}
        sections = {section: rounded(value) for section, value in self.sections.items()}
        counts = {"shown": self.shown, "spots": self.spots, "draws": self.draws, "sections": sections}
        return {**named, **{name: rounded(value) for name, value in numbers.items()}, **counts}


class SpotComparer:
    """Compares maps with measurements; pairs are computed once and shared by the rows of all tables.

    Parameters
    ----------
    sections : sequence of SpotSection
        Of one cohort.

    Raises
    ------
    InputError
        If there is no section, or one has too few spots to be moved.
    """

    def __init__(self, sections: Sequence[SpotSection], settings: Settings) -> None:
        if not sections:
            raise InputError("spots", "no section with maps", "See dml cohort show")
        self.sections, self.settings = tuple(sections), settings
        patients: dict[str, list[SpotSection]] = {}
        for section in sections:
            patients.setdefault(section.patient_id, []).append(section)
        seeds = dict(zip(patients, np.random.SeedSequence(settings.seed).generate_state(len(patients)), strict=True))
        grids = {patient: [section.grid for section in each] for patient, each in patients.items()}
        self.available = math.prod(draw_moves(g, 1, 0, settings.min_overlap).available for g in grids.values())
        self.draws = min(settings.draws, self.available)
        self._moves: dict[str, Moves] = {}
        self._weights: dict[str, np.ndarray] = {}
        for patient, each in patients.items():
            seed = int(seeds[patient])
            moves = draw_moves(grids[patient], self.draws, seed, settings.min_overlap)
            blocks = block_weights(grids[patient], settings.block, settings.resamples, seed)
            for section, weights in zip(each, blocks, strict=True):
                self._moves[section.section_id] = moves
                self._weights[section.section_id] = np.concatenate([np.ones_like(weights[:1]), weights])
        self._pairs: dict[tuple[str, str, str, Statistic], ComparedPair | None] = {}

    def table(self, comparisons: Sequence[Comparison], step_down: bool = False) -> list[ComparisonResult]:
        """Compute the rows of one table; p-values are corrected over all of them."""
        parts = [self._combine(comparison) for comparison in comparisons]
        nulls = np.stack([part[1] for part in parts]) if parts else np.zeros((0, self.draws))
        observed = np.array([part[0] for part in parts])
        resampled = np.stack([part[2] for part in parts]) if parts else np.zeros((0, self.settings.resamples))
        p = p_values(observed, nulls)
        corrected = np.maximum(p, table_p_values(observed, nulls, step_down))
        low, high = interval(resampled, self.settings.confidence)
        return [
            ComparisonResult(
                comparison=comparison,
                value=value,
                low=float(low[i]),
                high=float(high[i]),
                p=float(p[i]),
                p_table=float(corrected[i]),
                draws=self.draws,
                spots=spots,
                sections=sections,
            )
            for i, (comparison, (_, _, _, value, spots, sections)) in enumerate(zip(comparisons, parts, strict=True))
        ]

    def _combine(self, comparison: Comparison) -> tuple[float, np.ndarray, np.ndarray, float, int, dict[str, float]]:
        """Return correlation, null, resamples, value, spots and the values of sections, as means over sections."""
        parts = {s.section_id: part for s in self.sections if (part := self._part(s, comparison)) is not None}
        if not parts:
            nothing = np.full(self.draws, np.nan), np.full(self.settings.resamples, np.nan)
            return np.nan, *nothing, np.nan, 0, {}
        correlation, value = (float(np.mean([getattr(p, n) for p in parts.values()])) for n in ("correlation", "value"))
        null, resampled = (np.mean([getattr(p, n) for p in parts.values()], axis=0) for n in ("null", "resampled"))
        sections = {name: part.value for name, part in parts.items()}
        return correlation, null, resampled, value, sum(p.spots for p in parts.values()), sections

    def _part(self, section: SpotSection, comparison: Comparison) -> ComparedPair | None:
        first = self._pair(section, comparison.map, comparison.measurement, comparison.statistic)
        if comparison.less is None or first is None:
            return first
        second = self._pair(section, comparison.less, comparison.measurement, comparison.statistic)
        if second is None:
            return None
        return ComparedPair(
            first.value - second.value,
            first.correlation - second.correlation,
            first.null - second.null,
            first.resampled - second.resampled,
            min(first.spots, second.spots),
        )

    def _pair(self, section: SpotSection, map_: str, measurement: str, statistic: Statistic) -> ComparedPair | None:
        key = (section.section_id, map_, measurement, statistic)
        if key not in self._pairs:
            self._pairs[key] = self._compare(section, map_, measurement, statistic)
        return self._pairs[key]

    def _compare(self, section: SpotSection, map_: str, measurement: str, statistic: Statistic) -> ComparedPair | None:
        if map_ not in section.values or measurement not in section.values:
            return None
        x, y = (section.values[name].to_numpy(float) for name in (map_, measurement))
        both = np.isfinite(x) & np.isfinite(y)
        if not _enough(x[both], y[both], statistic):
            return None
        weights = self._weights[section.section_id][:, both]
        correlations = spearman(x[both], y[both], weights[:1] if statistic == "auc" else weights)
        values = auc(x[both], y[both] > 0.5, weights) if statistic == "auc" else correlations
        null = null_correlations(section.grid, x, y[None], self._moves[section.section_id])[0]
        return ComparedPair(float(values[0]), float(correlations[0]), null, values[1:], int(both.sum()))


def _enough(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], statistic: Statistic) -> bool:
    """Whether there are spots enough, in both classes of an AUC, and both values vary."""
    if len(x) < MIN_SPOTS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return False
    return statistic == "spearman" or min((y > 0.5).sum(), (y <= 0.5).sum()) >= MIN_CLASS_SPOTS
