"""Does a model use what it is given? Transcriptomes hidden one after the other, or of another patient; other slides."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dml.core.types import Case, Cohort
from dml.evaluation.probes.fold_models import Change, Subject, predicted
from dml.evaluation.probes.scoring import Judge


def missing_modality(
    subjects: Sequence[Subject], judge: Judge, shares: Sequence[float], repeats: int, seed: int
) -> dict[str, Any]:
    """Judge the teacher with the transcriptomes of a growing share of the test patients hidden.

    One trained model throughout. In each of several random orders patients lose their transcriptome one after the
    other, fold by fold; the metric is the mean over the orders.

    Returns
    -------
    dict
        ``teacher``: share, value, ci_low, ci_high, and the difference to all transcriptomes; ``student``: value and
        interval of the model that never has one.
    """
    whole, without = predicted(subjects, "teacher"), predicted(subjects, "teacher", hidden)
    ranks = [_ranks(judge.truth, np.random.default_rng([seed, repeat])) for repeat in range(repeats)]
    complete, curve = judge.metric(whole), []
    for share in shares:
        mixed = [_mixed(whole, without, rank < share) for rank in (ranks if 0 < share < 1 else ranks[:1])]
        metric = judge.metric(*mixed)
        curve.append({"share": share, **(judge.value(metric) or {}), "lost": judge.apart(metric, complete)})
    return {"teacher": curve, "student": judge.value(judge.metric(predicted(subjects, "student")))}


def exchanged(subjects: Sequence[Subject], judge: Judge, repeats: int, seed: int) -> dict[str, Any]:
    """Judge models that are shown the transcriptome, or the slides, of another test patient of the fold.

    Returns
    -------
    dict
        Per model (teacher, student) and modality (genes, slides; the student has no genes): ``own`` and ``other`` with
        intervals, and the paired ``lost`` = other - own. ``other`` is the mean over the exchanges. A modality that no
        test patient has is left out.
    """
    found: dict[str, Any] = {}
    for model, modalities in (("teacher", ("genes", "slides")), ("student", ("slides",))):
        own = judge.metric(predicted(subjects, model))
        found[model] = {}
        for modality in modalities:
            if not any(_has(case, modality) for subject in subjects for case in subject.test.cases):
                continue
            changes = [_exchange(modality, np.random.SeedSequence([seed, repeat])) for repeat in range(repeats)]
            other = judge.metric(*(predicted(subjects, model, change) for change in changes))
            values = {"own": judge.value(own), "other": judge.value(other)}
            found[model][modality] = {**values, "lost": judge.apart(other, own)}
    return found


def hidden(cohort: Cohort, fold: int) -> Cohort:
    """Take the transcriptome from every patient."""
    return replace(cohort, cases=tuple(replace(case, expression=None) for case in cohort.cases))


def _exchange(modality: str, seed: np.random.SeedSequence) -> Change:
    """Give every patient who has the modality that of another, nobody its own."""

    def change(cohort: Cohort, fold: int) -> Cohort:
        random = np.random.default_rng([*seed.generate_state(2), fold])
        owners = [i for i, case in enumerate(cohort.cases) if _has(case, modality)]
        ring = random.permutation(owners)
        donor = dict(zip(ring.tolist(), np.roll(ring, 1).tolist(), strict=True))
        cases = [_given(c, cohort.cases[donor.get(i, i)], modality) for i, c in enumerate(cohort.cases)]
        return replace(cohort, cases=tuple(cases))

    return change


def _has(case: Case, modality: str) -> bool:
    return case.expression is not None if modality == "genes" else any(len(bag) for bag in case.bags.values())


def _given(case: Case, donor: Case, modality: str) -> Case:
    if modality == "genes":
        return replace(case, expression=donor.expression)
    return replace(case, bags=donor.bags)


def _ranks(truth: pd.DataFrame, random: np.random.Generator) -> np.ndarray:
    """Each patient's place in a random order of its fold, in 0 to 1: it loses its transcriptome above that share."""
    ranks = np.empty(len(truth))
    for fold in np.unique(truth["fold"]):
        inside = np.flatnonzero(truth["fold"] == fold)
        ranks[inside] = random.permutation(len(inside)) / len(inside)
    return ranks


def _mixed(whole: pd.DataFrame, without: pd.DataFrame, lost: np.ndarray) -> pd.DataFrame:
    names = whole.columns.drop("patient_id")
    mixed = whole.copy()
    mixed[names] = np.where(lost[:, None], without[names].to_numpy(), whole[names].to_numpy())
    return mixed
