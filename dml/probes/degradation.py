"""Degradation: inputs of the test patients are spoiled more and more, and the trained models stay as they are.

    area = mean of the leading metric over the levels 0 to the last (trapezoids)

Kinds of damage, each with a level in [0, 1):

- tokens_lost: that share of a patient's tiles is missing, at every resolution
- tokens_mixed: that share of the tiles is from another test patient
- gene_noise: that share of each gene's variance is noise, of variance 1 at level 1/2
- genes_missing: that share of the gene panel is not measured, the same genes of all patients
- gene_scale: expression is multiplied by 1 - level, as by logarithms to another base (ln for log2: level 0.31)

Shape legend: g genes, n tokens, r resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dml.core.errors import ConfigError
from dml.core.types import Bag, Case, Cohort, Source
from dml.evaluation.intervals import (
    MAX_UNDEFINED_SHARE,
    Difference,
    Estimate,
    evaluate_resamples,
    holm,
    rounded,
    two_sided_p,
)
from dml.evaluation.metric_sets import PRIMARY
from dml.evaluation.metrics import unweighted
from dml.models import registry
from dml.probes.fold_models import Change, FoldModels, predict_folds
from dml.probes.paired_scorer import PairedScorer
from dml.training.model_store import ModelStore

LEVELS = (0.0, 0.25, 0.5, 0.75, 0.9)
Damage = Callable[[Case, Case, np.ndarray, float, np.random.Generator], Case]
"""From a patient, another patient, the deviation of each gene, a level and random numbers to the spoiled patient."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of damage: what it is called, the input that it spoils, and how."""

    label: str
    source: Source
    damage: Damage


def lose_tokens(case: Case, other: Case, deviation: np.ndarray, level: float, random: np.random.Generator) -> Case:
    """Drop a share of the tiles at random; one is left."""
    bags = {}
    for mpp, bag in case.bags.items():
        rank = random.permutation(len(bag))
        there = torch.from_numpy(np.flatnonzero(rank < max(len(bag) - round(level * len(bag)), 1)))
        coords = None if bag.coords_um is None else bag.coords_um[there]
        bags[mpp] = replace(bag, tokens=bag.tokens[there], coords_um=coords, slide=bag.slide[there])
    return replace(case, bags=bags)


def mix_tokens(case: Case, other: Case, deviation: np.ndarray, level: float, random: np.random.Generator) -> Case:
    """Exchange the content of a share of the tiles for that of tiles of another patient."""
    bags = {}
    for mpp, bag in case.bags.items():
        rank = random.permutation(len(bag))
        donor = other.bags.get(mpp)
        drawn = random.integers(0, max(1 if donor is None else len(donor), 1), len(bag))
        replaced = rank < round(level * len(bag))
        bags[mpp] = bag if donor is None or not len(donor) else _exchange(bag, donor, replaced, drawn)
    return replace(case, bags=bags)


def add_noise(case: Case, other: Case, deviation: np.ndarray, level: float, random: np.random.Generator) -> Case:
    """Add Gaussian noise to every gene; level 1/2 is as much noise as the learning patients vary."""
    noise = random.normal(size=len(deviation)) * deviation * np.sqrt(level / (1 - level))
    assert case.expression is not None
    return replace(case, expression=(case.expression + noise).astype(np.float32))


def rescale(case: Case, other: Case, deviation: np.ndarray, level: float, random: np.random.Generator) -> Case:
    """Multiply expression by 1 - level."""
    assert case.expression is not None
    return replace(case, expression=(case.expression * (1 - level)).astype(np.float32))


def cut_panel(case: Case, other: Case, deviation: np.ndarray, level: float, random: np.random.Generator) -> Case:
    """Leave a share of the genes without a value; `random` is the same for all patients."""
    assert case.expression is not None
    missing = random.permutation(len(deviation)) < round(level * len(deviation))
    return replace(case, expression=np.where(missing, np.nan, case.expression).astype(np.float32))


KINDS: Mapping[str, Kind] = {
    "tokens_lost": Kind("tiles lost", "slide", lose_tokens),
    "tokens_mixed": Kind("tiles of another patient", "slide", mix_tokens),
    "gene_noise": Kind("noise in the genes", "genes", add_noise),
    "genes_missing": Kind("genes not measured", "genes", cut_panel),
    "gene_scale": Kind("other scale of expression", "genes", rescale),
}


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A number on all patients, and on every resample of them, so that differences are paired."""

    value: float
    resampled: np.ndarray

    @classmethod
    def mean(cls, parts: Sequence["Evaluated"], weights: Sequence[float]) -> "Evaluated":
        """Return a weighted sum."""
        value = sum(w * part.value for w, part in zip(weights, parts, strict=True))
        return cls(float(value), np.tensordot(np.asarray(weights), np.stack([part.resampled for part in parts]), 1))

    def less(self, other: "Evaluated") -> "Evaluated":
        """Return the difference to another."""
        return Evaluated(self.value - other.value, self.resampled - other.resampled)

    def estimate(self, confidence: float) -> dict[str, Any] | None:
        """Return value and percentile interval; None where it is not defined in enough resamples."""
        ends = self._ends(confidence)
        return None if ends is None else Estimate(self.value, *ends).to_json()

    def difference(self, confidence: float) -> dict[str, Any] | None:
        """Return difference, percentile interval and p of no difference, of what `less` returned."""
        ends, finite = self._ends(confidence), self.resampled[np.isfinite(self.resampled)]
        return None if ends is None else Difference(self.value, *ends, two_sided_p(finite)).to_json()

    def _ends(self, confidence: float) -> tuple[float, float] | None:
        finite, tail = self.resampled[np.isfinite(self.resampled)], (1 - confidence) / 2
        if not np.isfinite(self.value) or len(finite) < (1 - MAX_UNDEFINED_SHARE) * max(len(self.resampled), 1):
            return None
        low, high = np.quantile(finite, [tail, 1 - tail])
        return float(low), float(high)


def add_models(folds: Sequence[FoldModels], folder: Path, names: Sequence[str]) -> list[FoldModels]:
    """Load further models of every fold.

    Raises
    ------
    InputError
        If one is missing or cannot be loaded.
    """
    store = ModelStore(folder)
    return [
        replace(one, models={**one.models, **{name: store.fold_model(name, one.fold) for name in names}})
        for one in folds
    ]


def probe_degradation(
    folds: Sequence[FoldModels],
    scorer: PairedScorer,
    levels: Sequence[float] = LEVELS,
    repeats: int = 3,
    seed: int = 0,
    progress: Callable[[Sequence[tuple[str, str]]], Any] = iter,
) -> dict[str, Any]:
    """Score all models of the folds on test patients whose inputs are spoiled.

    Parameters
    ----------
    levels : sequence of float
        Increasing, from 0, below 1.
    repeats : int
        Random damages of every level, whose metric is averaged.
    progress : callable
        Wraps the list of pairs of kind and model, for a progress bar.

    Returns
    -------
    dict
        ``metric``, ``patients``, ``levels``, ``repeats``; ``labels`` of the kinds; ``kinds``: kind of damage to model
        to ``curve`` (level, value, interval), ``area`` with interval, and ``loss``: area less the value without damage;
        ``compared``: kind to model to the difference of the teacher's area and its own, with p_holm over the models;
        ``left_out``: models that do not predict every test patient. A model has no curve for an input that it does not
        read.

    Raises
    ------
    ConfigError
        If the levels are not as they must be.
    """
    increasing = all(b > a for a, b in pairwise(levels))
    if len(levels) < 2 or levels[0] != 0 or not increasing or levels[-1] >= 1:
        raise ConfigError(f"levels {list(levels)}: they must increase from 0 and stay below 1, e.g. 0, 0.5, 0.9")
    plain = {name: predict_folds(folds, name) for name in folds[0].models}
    able = {name: rows for name, rows in plain.items() if len(rows) == len(scorer.outcomes)}
    undamaged = {name: _evaluate(scorer, rows) for name, rows in able.items()}
    deviations = {one.fold: _deviation(one.learning) for one in folds}
    kinds: dict[str, dict[str, Any]] = {}
    areas: dict[str, dict[str, Evaluated]] = {}
    jobs = [(kind, name) for kind, each in KINDS.items() for name in able if each.source in registry.entry(name).inputs]
    for kind, name in progress(jobs):
        points = [undamaged[name]]
        for level in levels[1:]:
            changes = [spoil(kind, level, (seed, repeat), deviations) for repeat in range(repeats)]
            points.append(_evaluate(scorer, *(predict_folds(folds, name, change) for change in changes)))
        area = Evaluated.mean(points, trapezoid_weights(levels))
        areas.setdefault(kind, {})[name] = area
        curve = [
            {"level": level, **(point.estimate(scorer.confidence) or {})}
            for level, point in zip(levels, points, strict=True)
        ]
        loss = area.less(undamaged[name]).difference(scorer.confidence)
        kinds.setdefault(kind, {})[name] = {"curve": curve, "area": area.estimate(scorer.confidence), "loss": loss}
    return {
        "metric": PRIMARY[scorer.task.kind],
        "patients": len(scorer.outcomes),
        "levels": list(levels),
        "repeats": repeats,
        "labels": {kind: KINDS[kind].label for kind in kinds},
        "kinds": kinds,
        "compared": {kind: _compare(each, scorer.confidence) for kind, each in areas.items()},
        "left_out": sorted(set(plain) - set(able)),
    }


def spoil(kind: str, level: float, seed: tuple[int, ...], deviations: Mapping[int, np.ndarray]) -> Change:
    """Return a change that spoils the test patients of a fold; the same tiles and genes suffer at every higher level.

    Parameters
    ----------
    kind : str
        Of `KINDS`.
    level : float
        In [0, 1).
    seed : tuple of int
        Of the damage.
    deviations : mapping
        Fold to the deviation of each gene among its learning patients.
    """
    each, number = KINDS[kind], list(KINDS).index(kind)

    def change(cohort: Cohort, fold: int) -> Cohort:
        owners = [i for i, case in enumerate(cohort.cases) if case.has(each.source)]
        order = np.random.default_rng([*seed, number, fold]).permutation(owners)
        donor = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        cases = list(cohort.cases)
        for i in owners:
            each_seed = [*seed, number, fold] if each.damage is cut_panel else [*seed, number, fold, i]
            random = np.random.default_rng(each_seed)
            cases[i] = each.damage(cohort.cases[i], cohort.cases[donor[i]], deviations[fold], level, random)
        return replace(cohort, cases=tuple(cases))

    return change


def trapezoid_weights(levels: Sequence[float]) -> list[float]:
    """Return the weights of points on a curve in its mean over the levels.

    Examples
    --------
    >>> trapezoid_weights([0.0, 0.5, 1.0])
    [0.25, 0.5, 0.25]
    """
    steps = np.diff(np.asarray(levels, float)) / (levels[-1] - levels[0])
    return [float(x) for x in (np.append(steps, 0) + np.append(0, steps)) / 2]


def _compare(areas: Mapping[str, Evaluated], confidence: float) -> dict[str, Any]:
    """Return the difference of the teacher's area to that of each other model; nothing without a teacher."""
    if "teacher" not in areas:
        return {}
    compared = {
        name: areas["teacher"].less(area).difference(confidence) for name, area in areas.items() if name != "teacher"
    }
    defined = {name: entry for name, entry in compared.items() if entry is not None}
    for name, p in holm({name: entry["p"] for name, entry in defined.items()}).items():
        defined[name]["p_holm"] = rounded(p)
    return defined


def _evaluate(scorer: PairedScorer, *predictions: Any) -> Evaluated:
    metric = scorer.metric(*predictions)
    value = float(metric(unweighted(len(scorer.outcomes)))[0])
    return Evaluated(value, evaluate_resamples(metric, scorer.weights))


def _deviation(learning: Cohort) -> np.ndarray:
    """Return the standard deviation of each gene among the learning patients (g)."""
    rows = [case.expression for case in learning.cases if case.expression is not None]
    return np.nanstd(np.array(rows, float), axis=0) if rows else np.zeros(len(learning.genes))


def _exchange(bag: Bag, donor: Bag, replaced: np.ndarray, drawn: np.ndarray) -> Bag:
    tokens = bag.tokens.clone()
    at = torch.from_numpy(np.flatnonzero(replaced))
    tokens[at] = donor.tokens[torch.from_numpy(drawn[replaced])].to(tokens.dtype)
    return replace(bag, tokens=tokens)
