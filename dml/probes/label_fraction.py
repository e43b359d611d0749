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
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.files import WORK, digest, read_parquet, write_parquet
from dml.core.tasks import Task, make_task
from dml.core.types import Case, Cohort
from dml.evaluation.intervals import holm, rounded
from dml.evaluation.metric_sets import PRIMARY
from dml.probes.paired_scorer import PairedScorer
from dml.training.folds import Fold, make_fold, select_test_patients
from dml.training.train import distill_student, train_baseline, train_teacher

log = logging.getLogger(__name__)
ARMS = ("teacher", "student", "student_undistilled", "student_shuffled")
"""Arms that are always trained; deep baselines follow."""
FRACTIONS = (0.1, 0.25, 0.5, 1.0)
DECIDING = ("cohort", "tiles", "embed", "inputs", "model", "optimisation", "teacher", "distillation", "evaluation")
"""Sections of params.yaml that a training depends on, besides seed, task, fold and the stores."""


@dataclass(frozen=True, slots=True)
class LabelFractions:
    """Trains and reads the cells of one task: all arms on one fold with one fraction of the outcomes.

    Attributes
    ----------
    params : Params
        Of the current cohort.
    task : Task
        Whose outcomes are hidden.
    cohort, splits
        All patients, and their folds.
    stores : str
        Digest of what they were read from.
    models : tuple of str
        Deep baselines beside the arms.
    """

    params: config.Params
    task: Task
    cohort: Cohort
    splits: pd.DataFrame
    stores: str
    models: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, params: config.Params, task: str, cohort: Cohort, splits: pd.DataFrame, stores: str, models: Sequence[str]
    ) -> "LabelFractions":
        """Return the study of a task.

        Raises
        ------
        ConfigError
            If params.yaml does not have the task.
        """
        if task not in params.tasks:
            raise ConfigError(f"no task {task!r}; tasks of params.yaml are {', '.join(params.tasks)}")
        return cls(params, make_task(task, cohort.classes), cohort, splits, stores, tuple(models))

    def cells(self, fractions: Sequence[float]) -> list[tuple[float, int]]:
        """All fractions of all folds."""
        return [(fraction, fold) for fold in self.params.folds for fraction in fractions]

    def predictions(self, fraction: float, fold: int) -> dict[str, pd.DataFrame]:
        """Return the test predictions of every arm; trains those that are not there."""
        sections = {name: getattr(self.params, name) for name in DECIDING}
        content = {k: v if isinstance(v, str) else v.model_dump(mode="json") for k, v in sections.items()}
        key = digest(content, self.params.seed, fraction, fold, self.task.name, self.stores)
        folder = WORK / "label_fraction" / self.params.cohort / self.task.name / key
        paths = {arm: folder / f"{arm}.parquet" for arm in (*ARMS, *self.models)}
        if not all(path.exists() for path in paths.values()):
            for arm, rows in self._train(fraction, fold, [arm for arm, path in paths.items() if not path.exists()]):
                _write(paths[arm], rows)
        return {arm: read_parquet(path)[0].to_pandas() for arm, path in paths.items()}

    def _train(self, fraction: float, index: int, missing: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
        whole, name = make_fold(self.cohort, self.splits, index), self.task.name
        fold = replace(whole, learning=hide_outcomes(whole, self.task, fraction, self.params.seed))
        test = select_test_patients(self.cohort, self.splits, index)
        tested = test.subset({case.patient_id for case in test.cases if self.task.is_known(case)})
        log.info("%s fold %d: outcomes of %g of the learning patients", name, index, fraction)
        teacher = train_teacher(fold, self.params, name) if set(missing) & {*ARMS} - {"student_undistilled"} else None
        for arm in missing:
            if arm == "teacher":
                result = teacher
            elif arm in ARMS:
                taught = None if arm == "student_undistilled" or teacher is None else teacher.model
                result = distill_student(fold, self.params, name, taught, shuffle_targets=arm == "student_shuffled")
            else:
                result = train_baseline(fold, self.params, name, arm)
            if result is None:
                raise ConfigError(f"{arm}: no learning patient of fold {index} has what it requires")
            yield arm, result.model.predict(tested)


def hide_outcomes(fold: Fold, task: Task, fraction: float, seed: int) -> Cohort:
    """Return the learning patients with the outcomes of a fraction of them, the others without.

    Examples
    --------
    >>> from dml.core.tasks import SurvivalTask
    >>> from dml.data.example_cohort import example_cohort, example_splits
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
    parts: dict[tuple[str, float], list[pd.DataFrame]] = {}
    for fraction, fold in progress(study.cells(fractions)):
        for arm, rows in study.predictions(fraction, fold).items():
            parts.setdefault((arm, fraction), []).append(rows)
    for (arm, _), tables in parts.items():
        if sum(len(rows) for rows in tables) != len(scorer.outcomes):
            raise ConfigError(f"{arm}: it does not predict every test patient with a slide; leave it out of --models")
    metrics = {key: scorer.metric(pd.concat(rows, ignore_index=True)) for key, rows in parts.items()}
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


def collect_tested(cohort: Cohort, splits: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return patient_id, fold and the target columns of every test patient of known outcome, in the order of ids."""
    fold_of = splits[splits["role"] == "test"].set_index("patient_id")["fold"]
    rows = [
        {"patient_id": case.patient_id, "fold": int(fold_of[case.patient_id]), **task.target_values(case)}
        for case in cohort.cases
        if case.patient_id in fold_of.index and task.is_known(case) and case.has_slide
    ]
    return pd.DataFrame(rows).sort_values("patient_id", ignore_index=True)


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


def _write(path: Path, rows: pd.DataFrame) -> None:
    write_parquet(path, pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None))
