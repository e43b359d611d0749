"""Permutation test: models trained on permuted outcomes must not predict the true ones.

If their C-index or AUC differs from 0.5, or their Spearman correlation from 0, information of the test patients leaks
into the training, or the evaluation is wrong.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.tasks import Task, make_task
from dml.core.types import Cohort
from dml.evaluation.intervals import rounded
from dml.evaluation.metric_sets import PRIMARY
from dml.probes.paired_scorer import PairedScorer
from dml.training.folds import make_fold, select_test_patients
from dml.training.train import train_teacher

log = logging.getLogger(__name__)


def run_permutation_test(
    cohort: Cohort, splits: pd.DataFrame, params: config.Params, task: str, repeats: int, progress: Any = iter
) -> dict[str, Any]:
    """Train teachers on permuted outcomes of the learning patients, score them on the true ones of the test patients.

    Real folds and the usual training, one member a fold. Each training permutes the outcomes anew, so trainings are
    independent, and the interval of their mean says how far it may be from chance by chance alone.

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
        over trainings), ``chance``, and ``passed``: whether chance is inside.
    """
    single = params.model_copy(update={"optimisation": params.optimisation.model_copy(update={"ensemble_size": 1})})
    target = make_task(task, cohort.classes)
    jobs = [(fold, repeat) for repeat in range(repeats) for fold in params.folds]
    rows = [
        {
            "fold": fold,
            "repeat": repeat,
            "value": rounded(_train_and_score(cohort, splits, single, target, fold, repeat)),
        }
        for fold, repeat in progress(jobs)
    ]
    values = [row["value"] for row in rows if row["value"] is not None]
    return {
        "metric": PRIMARY[target.kind],
        "trainings": rows,
        **_t_interval(values, params.evaluation.confidence, target),
    }


def permute_outcomes(cohort: Cohort, unchanged: set[str], task: Task, seed: tuple[int, ...]) -> Cohort:
    """Permute the outcomes of one task among the patients that have one, except those that stay unchanged."""
    permuted = [i for i, c in enumerate(cohort.cases) if task.is_known(c) and c.patient_id not in unchanged]
    order = np.random.default_rng(seed).permutation(permuted)
    donor = dict(zip(permuted, order.tolist(), strict=True))
    cases = [task.take_target(c, cohort.cases[donor[i]]) if i in donor else c for i, c in enumerate(cohort.cases)]
    return replace(cohort, cases=tuple(cases))


def _train_and_score(
    cohort: Cohort, splits: pd.DataFrame, params: config.Params, task: Task, fold: int, repeat: int
) -> float:
    test = select_test_patients(cohort, splits, fold)
    permuted = permute_outcomes(cohort, {c.patient_id for c in test.cases}, task, (params.seed, fold, repeat))
    seeded = params.model_copy(update={"seed": params.seed + 1000 * (repeat + 1)})
    model = train_teacher(make_fold(permuted, splits, fold), seeded, task.name).model
    scored = test.subset({c.patient_id for c in test.cases if task.is_known(c)})
    rows = [{"patient_id": c.patient_id, "fold": 0, **task.target_values(c)} for c in scored.cases]
    scorer = PairedScorer(task, pd.DataFrame(rows), np.ones((1, len(rows))), 0.95)
    value = float(scorer.metric(model.predict(scored))(scorer.weights)[0])
    log.info("%s fold %d, permuted outcomes: %s %.3f", task.name, fold, PRIMARY[task.kind], value)
    return value


def _t_interval(values: list[float], confidence: float, task: Task) -> Mapping[str, Any]:
    from scipy.stats import t

    if len(values) < 2:
        return {"value": None, "ci_low": None, "ci_high": None, "chance": task.chance, "passed": None}
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    half = float(t.ppf(0.5 + confidence / 2, len(values) - 1)) * error
    ends = {"ci_low": rounded(mean - half), "ci_high": rounded(mean + half)}
    return {"value": rounded(mean), **ends, "chance": task.chance, "passed": bool(abs(mean - task.chance) <= half)}
