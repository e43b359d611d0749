"""Use of the student's optional clinical inputs: each hidden from everyone, and more and more of all of them hidden."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dml.core.types import Cohort
from dml.data.clinical_inputs import value_of, without_inputs
from dml.probes.fold_models import Change, FoldModels, predict_folds
from dml.probes.paired_scorer import PairedScorer


def hide_clinical_inputs(
    folds: Sequence[FoldModels], scorer: PairedScorer, fractions: Sequence[float], repeats: int, seed: int
) -> dict[str, Any] | None:
    """Score the student with a growing share of the test patients' clinical inputs hidden, and without each one.

    The trained model stays the same. Which inputs of which patients are hidden is drawn several times; what is hidden
    at a share is hidden at larger ones, too.

    Returns
    -------
    dict or None
        ``curve``: share, value, ci_low, ci_high, and the ``difference`` to all that is known; ``without``: the same for
        each input hidden from all patients, and ``known``: the share of them of whom it is known. None for a student
        without clinical inputs.
    """
    inputs = folds[0].models["student"].spec.preprocessor.clinical
    if inputs is None:
        return None
    complete = scorer.metric(predict_folds(folds, "student"))

    def point(*changes: Change) -> dict[str, Any]:
        metric = scorer.metric(*(predict_folds(folds, "student", change) for change in changes))
        return {**(scorer.value(metric) or {}), "difference": scorer.difference(metric, complete)}

    curve = []
    for share in fractions:
        seeds = range(repeats if 0 < share < 1 else 1)
        curve.append({"share": share, **point(*(_hide_share(inputs.names, share, [seed, repeat]) for repeat in seeds))})
    cases = [case for one in folds for case in one.test.cases]
    without = {
        name: {**point(_hide_name(name)), "known": float(np.mean([value_of(c, name) is not None for c in cases]))}
        for name in inputs.names
    }
    return {"curve": curve, "without": without}


def _hide_share(names: Sequence[str], share: float, seed: Sequence[int]) -> Change:
    def change(cohort: Cohort, fold: int) -> Cohort:
        draws = np.random.default_rng([*seed, fold]).random((len(cohort.cases), len(names)))
        hidden = [{name for name, draw in zip(names, row, strict=True) if draw < share} for row in draws]
        cases = [without_inputs(case, gone) for case, gone in zip(cohort.cases, hidden, strict=True)]
        return replace(cohort, cases=tuple(cases))

    return change


def _hide_name(name: str) -> Change:
    def change(cohort: Cohort, fold: int) -> Cohort:
        return replace(cohort, cases=tuple(without_inputs(case, {name}) for case in cohort.cases))

    return change
