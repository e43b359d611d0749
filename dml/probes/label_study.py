"""What studies of learning patients' outcomes share: models trained with changed outcomes, stored under ``.work``.

Folds and test patients stay the same, so that differences are paired. A killed run resumes: each training is stored
under a key of all that decides it.
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd
import pyarrow as pa

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.files import WORK, digest, read_parquet, write_parquet
from dml.core.tasks import Task, make_task
from dml.core.types import Cohort
from dml.evaluation.metrics import Metric
from dml.probes.paired_scorer import PairedScorer
from dml.training.folds import Fold, make_fold, select_test_patients
from dml.training.train import distill_student, train_baseline, train_teacher

log = logging.getLogger(__name__)
DECIDING = ("cohort", "tiles", "embed", "inputs", "model", "optimisation", "teacher", "distillation", "evaluation")
"""Sections of params.yaml that a training depends on, besides seed, task, fold and the stores."""
OUT_OF_FOLD = "out_of_fold"
"""Name of the teacher's predictions of learning patients by members that did not train on them."""
STUDENTS = ("student", "student_undistilled", "student_shuffled")
Train = Callable[[Sequence[str]], Iterator[tuple[str, pd.DataFrame]]]
"""Names of models to their predictions, one after the other."""


@dataclass(frozen=True, slots=True)
class LabelStudy:
    """One task whose learning outcomes are changed, and the cells that are trained with them.

    Attributes
    ----------
    params : Params
        Of the current cohort.
    task : Task
        Whose outcomes are changed.
    cohort, splits
        All patients, and their folds.
    stores : str
        Digest of what they were read from.
    models : tuple of str
        Deep baselines beside teacher and students.
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
    ) -> Self:
        """Return the study of a task.

        Raises
        ------
        ConfigError
            If params.yaml does not have the task.
        """
        if task not in params.tasks:
            raise ConfigError(f"no task {task!r}; tasks of params.yaml are {', '.join(params.tasks)}")
        return cls(params, make_task(task, cohort.classes), cohort, splits, stores, tuple(models))

    def fold(self, index: int) -> Fold:
        """Return the learning patients of a fold."""
        return make_fold(self.cohort, self.splits, index)

    def tested(self, index: int) -> Cohort:
        """Return the test patients of a fold whose outcome is known."""
        test = select_test_patients(self.cohort, self.splits, index)
        return test.subset({case.patient_id for case in test.cases if self.task.is_known(case)})

    def load_or_train(self, probe: str, cell: Sequence[Any], names: Sequence[str], train: Train) -> dict[str, Any]:
        """Return the predictions of every name in a cell; trains those that are not stored."""
        sections = {name: getattr(self.params, name) for name in DECIDING}
        content = {k: v if isinstance(v, str) else v.model_dump(mode="json") for k, v in sections.items()}
        key = digest(content, self.params.seed, *cell, self.task.name, self.stores)
        folder = WORK / probe / self.params.cohort / self.task.name / key
        paths = {name: folder / f"{name}.parquet" for name in names}
        missing = [name for name, path in paths.items() if not path.exists()]
        for name, rows in train(missing) if missing else ():
            table = pa.Table.from_pandas(rows, preserve_index=False)
            write_parquet(paths[name], table.replace_schema_metadata(None))
        return {name: read_parquet(path)[0].to_pandas() for name, path in paths.items()}

    def train_models(self, fold: Fold, names: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
        """Train models of one fold; yield each name with its predictions of the test patients.

        Parameters
        ----------
        fold : Fold
            Whose learning patients have the changed outcomes.
        names : sequence of str
            "teacher", one of `STUDENTS`, a deep baseline, or `OUT_OF_FOLD`.
        """
        params, task, tested = self.params, self.task.name, self.tested(fold.index)
        needs_teacher = set(names) & {OUT_OF_FOLD, "teacher", "student", "student_shuffled"}
        teacher = train_teacher(fold, params, task) if needs_teacher else None
        for name in names:
            if name == OUT_OF_FOLD and teacher is not None:
                yield name, teacher.out_of_fold
                continue
            if name == "teacher":
                result = teacher
            elif name in STUDENTS:
                taught = None if name == "student_undistilled" or teacher is None else teacher.model
                result = distill_student(fold, params, task, taught, shuffle_targets=name == "student_shuffled")
            else:
                result = train_baseline(fold, params, task, name)
            if result is None:
                raise ConfigError(f"{name}: no learning patient of fold {fold.index} has what it requires")
            yield name, result.model.predict(tested)


def pooled_metrics(
    scorer: PairedScorer, parts: Mapping[tuple[str, Hashable], Sequence[pd.DataFrame]]
) -> dict[tuple[str, Hashable], Metric]:
    """Return the leading metric of each model (first of its key) over the test patients of all folds.

    Raises
    ------
    ConfigError
        If a model does not predict all of them.
    """
    for (name, _), tables in parts.items():
        if sum(len(rows) for rows in tables) != len(scorer.outcomes):
            raise ConfigError(f"{name}: it does not predict every test patient with a slide; leave it out of --models")
    return {key: scorer.metric(pd.concat(rows, ignore_index=True)) for key, rows in parts.items()}


def collect_tested(cohort: Cohort, splits: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return patient_id, fold and the target columns of every test patient of known outcome, in the order of ids."""
    fold_of = splits[splits["role"] == "test"].set_index("patient_id")["fold"]
    rows = [
        {"patient_id": case.patient_id, "fold": int(fold_of[case.patient_id]), **task.target_values(case)}
        for case in cohort.cases
        if case.patient_id in fold_of.index and task.is_known(case) and case.has_slide
    ]
    return pd.DataFrame(rows).sort_values("patient_id", ignore_index=True)
