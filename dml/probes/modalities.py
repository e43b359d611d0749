"""Use of the inputs: transcriptomes hidden from more and more patients; genes or slides of another patient."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dml.core.types import Case, Cohort
from dml.probes.fold_models import Change, FoldModels, predict_folds
from dml.probes.paired_scorer import PairedScorer


def hide_transcriptomes(
    folds: Sequence[FoldModels], scorer: PairedScorer, fractions: Sequence[float], repeats: int, seed: int
) -> dict[str, Any]:
    """Score the teacher with the transcriptomes of a growing share of the test patients hidden.

    The trained model stays the same. In each of several random orders patients lose their transcriptome one after the
    other, fold by fold; the metric is the mean over the orders.

    Returns
    -------
    dict
        ``teacher``: share, value, ci_low, ci_high, and the ``difference`` to all transcriptomes; ``student``: value and
        interval of the model that never has one.
    """
    complete = predict_folds(folds, "teacher")
    without = predict_folds(folds, "teacher", drop_transcriptomes)
    ranks = [_random_ranks(scorer.outcomes, np.random.default_rng([seed, repeat])) for repeat in range(repeats)]
    reference, curve = scorer.metric(complete), []
    for share in fractions:
        mixed = [_mix(complete, without, rank < share) for rank in (ranks if 0 < share < 1 else ranks[:1])]
        metric = scorer.metric(*mixed)
        point = {"share": share, **(scorer.value(metric) or {})}
        curve.append({**point, "difference": scorer.difference(metric, reference)})
    return {"teacher": curve, "student": scorer.value(scorer.metric(predict_folds(folds, "student")))}


def exchange_modalities(folds: Sequence[FoldModels], scorer: PairedScorer, repeats: int, seed: int) -> dict[str, Any]:
    """Score models that are given the transcriptome, or the slides, of another test patient of the fold.

    Returns
    -------
    dict
        Per model (teacher, student) and modality (genes, slides; the student has no genes): ``original`` and
        ``exchanged`` with intervals, and the paired ``difference`` exchanged - original. ``exchanged`` is the mean over
        the exchanges. A modality that no test patient has is left out.
    """
    results: dict[str, Any] = {}
    for model, modalities in (("teacher", ("genes", "slides")), ("student", ("slides",))):
        original = scorer.metric(predict_folds(folds, model))
        results[model] = {}
        for modality in modalities:
            if not any(_has(case, modality) for one in folds for case in one.test.cases):
                continue
            changes = [exchange(modality, np.random.SeedSequence([seed, repeat])) for repeat in range(repeats)]
            exchanged = scorer.metric(*(predict_folds(folds, model, change) for change in changes))
            values = {"original": scorer.value(original), "exchanged": scorer.value(exchanged)}
            results[model][modality] = {**values, "difference": scorer.difference(exchanged, original)}
    return results


def drop_transcriptomes(cohort: Cohort, fold: int) -> Cohort:
    """Remove the transcriptome of every patient."""
    return replace(cohort, cases=tuple(replace(case, expression=None) for case in cohort.cases))


def exchange(modality: str, seed: np.random.SeedSequence) -> Change:
    """Return a change that gives every patient who has the modality that of another patient."""

    def change(cohort: Cohort, fold: int) -> Cohort:
        random = np.random.default_rng([*seed.generate_state(2), fold])
        owners = [i for i, case in enumerate(cohort.cases) if _has(case, modality)]
        ring = random.permutation(owners)
        donor = dict(zip(ring.tolist(), np.roll(ring, 1).tolist(), strict=True))
        cases = [_take(c, cohort.cases[donor.get(i, i)], modality) for i, c in enumerate(cohort.cases)]
        return replace(cohort, cases=tuple(cases))

    return change


def _has(case: Case, modality: str) -> bool:
    return case.has("genes" if modality == "genes" else "slide")


def _take(case: Case, donor: Case, modality: str) -> Case:
    if modality == "genes":
        return replace(case, expression=donor.expression)
    return replace(case, bags=donor.bags)


def _random_ranks(outcomes: pd.DataFrame, random: np.random.Generator) -> np.ndarray:
    """Each patient's rank in a random order of its fold, in 0 to 1: above that share its transcriptome is hidden."""
    ranks = np.empty(len(outcomes))
    for fold in np.unique(outcomes["fold"]):
        inside = np.flatnonzero(outcomes["fold"] == fold)
        ranks[inside] = random.permutation(len(inside)) / len(inside)
    return ranks


def _mix(complete: pd.DataFrame, without: pd.DataFrame, hidden: np.ndarray) -> pd.DataFrame:
    names = complete.columns.drop("patient_id")
    mixed = complete.copy()
    mixed[names] = np.where(hidden[:, None], without[names].to_numpy(), complete[names].to_numpy())
    return mixed
