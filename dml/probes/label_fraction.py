"""Label-fraction curve: models trained with the outcomes of a part of the learning patients.

The others keep slides and transcriptomes, from which a distilled student still learns. Folds and test patients stay the
same; who keeps an outcome is drawn evenly over inner folds and events or classes, and whoever keeps it at a fraction
keeps it at every higher one. Arms:

- teacher, student
- student_undistilled: without what unlabelled patients teach
- student_shuffled: the null, each patient has the teacher's targets of another

Every training is stored under ``.work``, so that a killed run resumes.
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from dml.core.errors import ConfigError
from dml.core.tasks import Task
from dml.core.types import Case, Cohort
from dml.evaluation.intervals import holm, rounded
from dml.evaluation.metric_sets import PRIMARY
from dml.probes.label_study import LabelStudy, pooled_metrics
from dml.probes.paired_scorer import PairedScorer
from dml.training.folds import Fold

log = logging.getLogger(__name__)
ARMS = ("teacher", "student", "student_undistilled", "student_shuffled")
"""Arms that are always trained; deep baselines follow."""
FRACTIONS = (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class LabelFractions(LabelStudy):
    """Trains and reads the cells of one task: all arms on one fold with one fraction of the outcomes."""

    def cells(self, fractions: Sequence[float]) -> list[tuple[float, int]]:
        """All fractions of all folds."""
        return [(fraction, fold) for fold in self.params.folds for fraction in fractions]

    def predictions(self, fraction: float, fold: int) -> dict[str, pd.DataFrame]:
        """Return the test predictions of every arm; trains those that are not there."""

        def train(missing: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
            log.info("%s fold %d: outcomes of %g of the learning patients", self.task.name, fold, fraction)
            whole = self.fold(fold)
            hidden = replace(whole, learning=hide_outcomes(whole, self.task, fraction, self.params.seed))
            return self.train_models(hidden, missing)

        return self.load_or_train("label_fraction", (fraction, fold), (*ARMS, *self.models), train)


def hide_outcomes(fold: Fold, task: Task, fraction: float, seed: int) -> Cohort:
    """Return the learning patients with the outcomes of a fraction of them, the others without.

    Examples
    --------
    >>> from dml.core.tasks import SurvivalTask
    >>> from dml.data.example_cohort import example_cohort, example_splits
    >>> from dml.training.folds import make_fold
    >>> cohort = example_cohort(40)
    >>> hidden = hide_outcomes(make_fold(cohort, example_splits(cohort), 0), SurvivalTask(), 0.5, 1)
    >>> sum(case.survival is not None for case in hidden.cases), len(hidden.cases)
    (16, 32)
    """
    strata: dict[Hashable, list[int]] = {}
    for i, case in enumerate(fold.learning.cases):
        if task.is_known(case):
            inner_fold = fold.inner_fold_of.get(case.patient_id)
            strata.setdefault((inner_fold, _stratum(case, task)), []).append(i)
    shown: set[int] = set()
    for members in strata.values():
        order = np.random.default_rng([seed, fold.index, members[0]]).permutation(members)
        shown.update(order[: max(1, round(fraction * len(members)))].tolist())
    cases = [case if i in shown else _without_outcome(case, task) for i, case in enumerate(fold.learning.cases)]
    return replace(fold.learning, cases=tuple(cases))


def score_fractions(
    study: LabelFractions, scorer: PairedScorer, fractions: Sequence[float], progress: Callable[[Any], Any] = iter
) -> dict[str, Any]:
    """Score every arm at every fraction on the outer test folds.

    Returns
    -------
    dict
        ``metric``, ``patients``, ``fractions``; ``arms``: arm to ``curve``, a list of fraction, value, interval and the
        paired ``difference`` to the last fraction; ``distillation``: per fraction the student less the undistilled one
        and less the shuffled one, with p_holm over the fractions.

    Raises
    ------
    ConfigError
        If the fractions do not increase or are outside of (0, 1].
    """
    if not fractions or list(fractions) != sorted(set(fractions)) or fractions[0] <= 0 or fractions[-1] > 1:
        raise ConfigError(f"fractions {list(fractions)}: they must increase, above 0 and at most 1, e.g. 0.1, 0.5, 1")
    parts: dict[tuple[str, Hashable], list[pd.DataFrame]] = {}
    for fraction, fold in progress(study.cells(fractions)):
        for arm, rows in study.predictions(fraction, fold).items():
            parts.setdefault((arm, fraction), []).append(rows)
    metrics = pooled_metrics(scorer, parts)
    last = fractions[-1]
    arms = {
        arm: [
            {
                "fraction": fraction,
                **(scorer.value(metrics[arm, fraction]) or {}),
                "difference": scorer.difference(metrics[arm, fraction], metrics[arm, last]),
            }
            for fraction in fractions
        ]
        for arm in (*ARMS, *study.models)
    }
    gains = {
        other: _gains({f"{f:g}": scorer.difference(metrics["student", f], metrics[other, f]) for f in fractions})
        for other in ("student_undistilled", "student_shuffled")
    }
    return {
        "metric": PRIMARY[study.task.kind],
        "patients": len(scorer.outcomes),
        "fractions": list(fractions),
        "arms": arms,
        "distillation": gains,
    }


def _gains(compared: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
    defined = {fraction: entry for fraction, entry in compared.items() if entry is not None}
    for fraction, p in holm({name: entry["p"] for name, entry in defined.items()}).items():
        defined[fraction]["p_holm"] = rounded(p)
    return defined


def _stratum(case: Case, task: Task) -> Hashable:
    values = task.target_values(case)
    return values.get("event", values.get("label"))


def _without_outcome(case: Case, task: Task) -> Case:
    if task.kind == "survival":
        return replace(case, survival=None)
    labels = {name: label for name, label in case.labels.items() if name != task.name}
    return replace(case, labels=labels, values={name: x for name, x in case.values.items() if name != task.name})
