"""The null: models trained on outcomes that were dealt out anew must know nothing of the true ones.

If their C-index or AUC is not about 0.5, something of the test patients reaches the training or the evaluation is
wrong.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.types import SURVIVAL, Case, Cohort
from dml.evaluation.metric_sets import PRIMARY
from dml.evaluation.probes.fold_models import observed
from dml.evaluation.probes.scoring import Judge
from dml.evaluation.rounding import rounded
from dml.training.folds import fold_of, held_out
from dml.training.train import teach

log = logging.getLogger(__name__)

CHANCE = 0.5


def shuffled_labels(
    cohort: Cohort, splits: pd.DataFrame, params: config.Params, task: str, repeats: int, progress: Any = iter
) -> dict[str, Any]:
    """Train teachers on shuffled outcomes of the learning patients, judge them on the true ones of the test patients.

    Real folds, the same training as ever, one member a fold. Each training deals the outcomes out anew, so trainings
    are independent, and the interval of their mean says how far it may be from 0.5 by chance.

    Parameters
    ----------
    repeats : int
        Trainings per fold.
    progress : callable
        Wraps the list of trainings, for a progress bar.

    Returns
    -------
    dict
        ``metric``, ``trainings`` (fold, repeat, value), ``value`` (their mean), ``ci_low`` and ``ci_high`` (t interval
        over trainings), and ``passed``: whether 0.5 is inside.
    """
    alone = params.model_copy(update={"optimisation": params.optimisation.model_copy(update={"members": 1})})
    jobs = [(fold, repeat) for repeat in range(repeats) for fold in params.folds]
    rows = [
        {"fold": fold, "repeat": repeat, "value": rounded(_trained(cohort, splits, alone, task, fold, repeat))}
        for fold, repeat in progress(jobs)
    ]
    known = [row["value"] for row in rows if row["value"] is not None]
    kind = "survival" if task == SURVIVAL else "classification"
    return {"metric": PRIMARY[kind], "trainings": rows, **_interval(known, params.evaluation.confidence)}


def shuffled(cohort: Cohort, keep: set[str], task: str, seed: tuple[int, ...]) -> Cohort:
    """Deal the outcomes of one task out anew among the patients that have one, except those to keep."""
    dealt = [i for i, c in enumerate(cohort.cases) if observed(c, task) and c.patient_id not in keep]
    order = np.random.default_rng(seed).permutation(dealt)
    donor = dict(zip(dealt, order.tolist(), strict=True))
    cases = [_with_outcome(c, cohort.cases[donor.get(i, i)], task) for i, c in enumerate(cohort.cases)]
    return replace(cohort, cases=tuple(cases))


def _with_outcome(case: Case, donor: Case, task: str) -> Case:
    if donor is case:
        return case
    if task == SURVIVAL:
        return replace(case, survival=donor.survival)
    return replace(case, labels={**case.labels, task: donor.labels[task]})


def _trained(cohort: Cohort, splits: pd.DataFrame, params: config.Params, task: str, fold: int, repeat: int) -> float:
    test = held_out(cohort, splits, fold)
    dealt = shuffled(cohort, {c.patient_id for c in test.cases}, task, (params.seed, fold, repeat))
    seeded = params.model_copy(update={"seed": params.seed + 1000 * (repeat + 1)})
    model = teach(fold_of(dealt, splits, fold), seeded, task).model
    judged = test.subset({c.patient_id for c in test.cases if observed(c, task)})
    truth = pd.DataFrame([{"patient_id": c.patient_id, "fold": 0, **observed(c, task)} for c in judged.cases])
    kind = model.spec.preprocessor.kind
    judge = Judge(kind, tuple(model.spec.preprocessor.classes), truth, np.ones((1, len(truth))), 0.95)
    value = float(judge.metric(model.predict(judged))(judge.weights)[0])
    log.info("%s fold %d, shuffled outcomes: %s %.3f", task, fold, PRIMARY[kind], value)
    return value


def _interval(values: list[float], confidence: float) -> Mapping[str, Any]:
    from scipy.stats import t

    if len(values) < 2:
        return {"value": None, "ci_low": None, "ci_high": None, "passed": None}
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    half = float(t.ppf(0.5 + confidence / 2, len(values) - 1)) * error
    ends = {"ci_low": rounded(mean - half), "ci_high": rounded(mean + half)}
    return {"value": rounded(mean), **ends, "passed": bool(abs(mean - CHANCE) <= half)}
