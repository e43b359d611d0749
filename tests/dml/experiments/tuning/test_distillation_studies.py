"""Studies of the distillation: with the teachers that are there, which no trial trains or asks again."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState

from dml.core.errors import InputError
from dml.core.types import Cohort
from dml.data.patient_reader import Patient
from dml.experiments.tuning import worker
from dml.experiments.tuning.objective import Objective, read_teachers
from dml.experiments.tuning.studies import load_study
from dml.training.checkpoint import FoldModel
from dml.training.distillation import DistillationTargets
from dml.training.folds import make_fold
from dml.training.train import train_teacher
from tests.planted_store import PARAMS, job, splits
from tests.synthetic import cohort

TASK, FOLDS = "grade", (0, 1)


@pytest.fixture
def taught(here: Path) -> tuple[Cohort, pd.DataFrame]:
    """A cohort and its splits; the teachers of both folds are trained."""
    data = cohort(32)
    table = splits(data)
    for fold in FOLDS:
        folder = Path(f"models/synthetic/{TASK}/teacher/fold-{fold}")
        train_teacher(make_fold(data, table, fold), PARAMS, TASK).model.save(folder)
    return data, table


def test_distillation_is_judged_with_the_teachers_that_are_there(taught: tuple[Cohort, pd.DataFrame]) -> None:
    asked = job(2, kind="student", task=TASK, name="d")
    teachers = read_teachers(PARAMS, TASK)
    worker.run_trials(asked, Objective.of(PARAMS, "student", TASK, *taught, teachers))
    study = load_study("d")
    assert [set(t.intermediate_values) >= {0} for t in study.get_trials()] == [True, True]
    assert study.get_trials()[0].state == TrialState.COMPLETE
    assert study.get_trials()[0].params == {"distillation.feature_weight": 1.0}
    changed = PARAMS.model_copy(update={"model": PARAMS.model.model_copy(update={"n_queries": 4})})
    with pytest.raises(InputError, match="trained with other `model` or `teacher` parameters"):
        worker.tune(job(2, params=changed, kind="student", task=TASK, name="d"))


def test_without_teachers_a_study_says_what_to_run(here: Path) -> None:
    with pytest.raises(InputError, match=r"teacher/fold-0: no teacher to distil. Train the teachers first: dvc repro"):
        worker.tune(job(2, kind="student", task=TASK, name="d"))


def test_a_teacher_is_asked_once_whatever_trials_follow(
    taught: tuple[Cohort, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {fold: FoldModel.load(Path(f"models/synthetic/{TASK}/teacher/fold-{fold}")) for fold in FOLDS}
    wanted = Objective.of(PARAMS, "student", TASK, *taught, plain).score(PARAMS, 0)
    asked: Counter[int] = Counter()
    original = FoldModel.distillation_targets

    def count_calls(
        self: FoldModel, patients: Sequence[Patient], member: int, batch_size: int = 16
    ) -> dict[str, DistillationTargets]:
        asked[member] += 1
        return original(self, patients, member, batch_size)

    monkeypatch.setattr(FoldModel, "distillation_targets", count_calls)
    objective = Objective.of(PARAMS, "student", TASK, *taught, read_teachers(PARAMS, TASK))
    assert [objective.score(PARAMS, 0) for _ in range(3)] == [wanted] * 3
    assert asked == {0: 1}
