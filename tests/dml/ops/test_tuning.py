"""Studies: judged without test patients, shared by workers, resumed after a kill, applied, reported."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient
from optuna.trial import TrialState

from dml.config import Params, load
from dml.errors import DmlError, InputError
from dml.ops.interfaces import commands
from dml.ops.tuning import studies, working
from dml.ops.tuning.applying import apply_best
from dml.ops.tuning.claiming import alive, claim, counted, reclaim
from dml.ops.tuning.objective import Objective
from dml.ops.tuning.pruning import FoldPruner
from dml.ops.tuning.recording import Recorder
from dml.ops.tuning.reporting import write_report
from dml.ops.tuning.studies import Job, journal, load_study, open_study
from dml.training.bundle import FoldModel
from dml.training.folds import fold_of, teach
from dml.types import Cohort, Survival
from tests.synthetic import cohort

ROOT = Path(__file__).resolve().parents[3]
CONTENT: dict[str, Any] = {
    "cohort": "synthetic",
    "tasks": ["survival", "grade"],
    "folds": [0, 1],
    "model": {"width": 8, "heads": 2, "references": 2, "gene_width": 8},
    "optimisation": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "device": "cpu"},
    "tuning": {
        "warmup": 1,
        "teacher": {"optimisation.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
        "distil": {"distillation.features": {"type": "float", "low": 0.0, "high": 2.0}},
    },
}
PARAMS = Params.model_validate(CONTENT)


class Planted:
    """Judges a learning rate by its distance from 0.01, without training."""

    folds = (0, 1)

    def __init__(self, fail: Callable[[Params], None] = lambda params: None) -> None:
        self.fail, self.seen = fail, []

    def value(self, params: Params, fold: int) -> float:
        self.fail(params)
        self.seen.append((params.optimisation.learning_rate, fold))
        return abs(params.optimisation.learning_rate - 0.01) + fold


def job(trials: int = 4, **changes: Any) -> Job:
    return Job(**{"params": PARAMS, "kind": "teacher", "task": "survival", "trials": trials, "name": "s", **changes})


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def splits(data: Cohort, folds: Sequence[int] = (0, 1)) -> pd.DataFrame:
    roles = ["train", "train", "validation", "test"]
    rows = [(c.patient_id, fold, roles[(i + fold) % 4]) for fold in folds for i, c in enumerate(data.cases)]
    return pd.DataFrame(rows, columns=["patient_id", "fold", "role"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, without MLflow."""
    monkeypatch.chdir(tmp_path)
    for name in ("trial", "catch_up", "finish"):
        monkeypatch.setattr(Recorder, name, lambda *arguments: None)
    return tmp_path


@pytest.mark.parametrize("metric", ["validation_loss", "c_index"])
def test_test_patients_do_not_reach_the_objective(metric: str) -> None:
    data = cohort(40)
    table = splits(data)
    params = PARAMS.model_copy(update={"tuning": PARAMS.tuning.model_copy(update={"objective": metric})})
    tested = set(table.loc[(table["fold"] == 0) & (table["role"] == "test"), "patient_id"])

    def poisoned(case: Any) -> Any:
        if case.patient_id not in tested:
            return case
        bags = {m: replace(bag, tokens=torch.full_like(bag.tokens, 1e4)) for m, bag in case.pyramid.items()}
        return replace(case, pyramid=bags, expression=case.expression * 100, survival=Survival(1.0, True))

    spoilt = replace(data, cases=tuple(map(poisoned, data.cases)))
    clean, other = (Objective.of(params, "teacher", "survival", d, table) for d in (data, spoilt))
    assert clean.value(params, 0) == other.value(params, 0)
    judged = {case.patient_id for fold in clean.folds.values() for case in fold.validation.cases if fold.index == 0}
    assert not judged & tested


def test_distillation_is_judged_with_the_teachers_that_are_there(here: Path) -> None:
    data = cohort(32)
    table = splits(data)
    for fold in (0, 1):
        folder = Path(f"models/synthetic/grade/teacher/fold-{fold}")
        teach(fold_of(data, table, fold), PARAMS, "grade").model.save(folder)
    teachers = {k: FoldModel.load(Path(f"models/synthetic/grade/teacher/fold-{k}")) for k in (0, 1)}
    asked = job(2, kind="distil", task="grade", name="d")
    working.work(asked, Objective.of(PARAMS, "distil", "grade", data, table, teachers))
    study = load_study("d")
    assert [set(t.intermediate_values) >= {0} for t in study.get_trials()] == [True, True]
    assert study.get_trials()[0].state == TrialState.COMPLETE
    assert study.get_trials()[0].params == {"distillation.features": 1.0}
    changed = PARAMS.model_copy(update={"model": PARAMS.model.model_copy(update={"references": 4})})
    with pytest.raises(InputError, match="trained with other `model` or `teacher` parameters"):
        working.tune(job(2, params=changed, kind="distil", task="grade", name="d"))


def test_a_study_begins_with_params_yaml_and_resumes_to_its_number_of_trials(here: Path) -> None:
    planted = Planted()
    working.work(job(3), planted)
    working.work(job(3), planted)
    working.work(job(5), planted)
    study = load_study("s")
    assert planted.seen[:2] == [(1e-3, 0), (1e-3, 1)]
    assert len(study.get_trials()) == 5
    assert len({trial.params["optimisation.learning_rate"] for trial in study.get_trials()}) == 5
    first = study.get_trials()[0]
    assert first.value == pytest.approx(0.009 + 0.5)
    assert first.user_attrs["fold_1"] == pytest.approx(1.009)


def test_equal_seeds_make_equal_studies(here: Path) -> None:
    for name in ("a", "b"):
        working.work(job(4, name=name), Planted())
    one, other = ([trial.params for trial in load_study(name).get_trials()] for name in ("a", "b"))
    assert one == other


def test_a_trial_of_a_worker_that_is_gone_is_tried_again_once_and_given_up_in_the_end(here: Path) -> None:
    study = open_study(job(2))
    with alive() as worker:
        taken = claim(study, job(2), worker)
        reclaim(study, job(2))
        assert states(study) == ["RUNNING"]  # its worker lives
    reclaim(study, job(2))
    reclaim(study, job(2))
    assert taken is not None
    assert states(study) == ["FAIL", "WAITING"]
    working.work(job(2), Planted())
    first, again, other = study.get_trials()
    assert again.params == first.params
    assert again.user_attrs["retry_of"] == first.number
    assert other.state.name in ("COMPLETE", "PRUNED")
    for _ in range(3):
        with alive() as worker:
            claim(study, job(3), worker)
    reclaim(study, job(3))
    assert counted(study.get_trials()) == 3
    assert states(study)[-3:] == ["FAIL"] * 3


def test_killed_between_queueing_and_failing_a_trial_is_not_queued_twice(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(job())
    with alive() as worker:
        claim(study, job(), worker)

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", killed)
        with pytest.raises(KeyboardInterrupt):
            reclaim(study, job())
    reclaim(study, job())
    assert states(study) == ["FAIL", "WAITING"]


def test_an_unfinished_line_of_the_journal_is_cut_off(here: Path) -> None:
    working.work(job(2), Planted())
    with journal("s").open("a") as handle:
        handle.write('{"op_code": 4, "wor')
    working.work(job(3), Planted())
    assert len(load_study("s").get_trials()) == 3


def test_values_that_cannot_be_trained_with_end_their_trial_and_not_the_study(here: Path) -> None:
    def diverge(params: Params) -> None:
        if params.optimisation.learning_rate > 5e-3:
            raise DmlError("training diverged in epoch 0")

    working.work(job(8), Planted(diverge))
    trials = load_study("s").get_trials()
    spoilt = [trial for trial in trials if trial.params["optimisation.learning_rate"] > 5e-3]
    assert 0 < len(spoilt) < 8
    assert all(t.state == TrialState.PRUNED and "diverged" in t.user_attrs["infeasible"] for t in spoilt)


def test_missing_input_ends_the_worker_and_the_trial_is_kept_for_the_next(here: Path) -> None:
    def missing(params: Params) -> None:
        raise InputError("splits.parquet", "gone", "Run dvc repro")

    with pytest.raises(InputError):
        working.work(job(2), Planted(missing))
    working.work(job(2), Planted())
    assert states(load_study("s"))[0] == "FAIL"
    assert counted(load_study("s").get_trials()) == 2


def test_folds_are_compared_with_the_same_folds_of_complete_trials() -> None:
    study = optuna.create_study(pruner=FoldPruner(2))
    for value in (1.0, 2.0):
        trial = study.ask()
        trial.report(value, 0)  # the first fold is easy for all
        trial.report(value + 1, 1)
        study.tell(trial, value + 1)
    good, bad = study.ask(), study.ask()
    good.report(1.4, 0)
    bad.report(1.4, 0)
    assert not good.should_prune()
    bad.report(2.6, 1)
    assert bad.should_prune()


def test_a_study_begun_with_other_parameters_is_not_gone_on_with(here: Path) -> None:
    working.work(job(1), Planted())
    longer = PARAMS.model_copy(update={"optimisation": PARAMS.optimisation.model_copy(update={"epochs": 9})})
    with pytest.raises(InputError, match=r"optimisation\.epochs was 1, is 9"):
        open_study(job(2, params=longer))
    tuned = PARAMS.model_copy(update={"optimisation": PARAMS.optimisation.model_copy(update={"learning_rate": 2e-3})})
    open_study(job(2, params=tuned))  # a value that is tuned may change: dml apply does


def test_the_best_is_applied_and_reported(here: Path) -> None:
    path = Path("params.yaml")
    path.write_text("# mine\n" + yaml.safe_dump(CONTENT))
    with pytest.raises(InputError, match="no such study"):
        apply_best("s", path)
    open_study(job())
    with pytest.raises(InputError, match="no finished trial"):
        apply_best("s", path)
    working.work(job(6), Planted())
    study = load_study("s")
    diff, best = apply_best("s", path)
    assert load(path).optimisation.learning_rate == best.user_attrs["values"]["optimisation.learning_rate"]
    assert "# mine" in path.read_text()
    assert "+  learning_rate" in diff
    folder = write_report(study, PARAMS)
    said = json.loads((folder / "study.json").read_text())
    assert folder == Path("reports/synthetic/survival/tuning/s")
    assert said["best"]["value"] == study.best_value < said["reference"]["value"]
    assert {"study.md", "history.svg", "slices.svg"} <= {file.name for file in folder.iterdir()}
    path.write_text(yaml.safe_dump({**CONTENT, "cohort": "another"}))
    with pytest.raises(InputError, match="dml cohort use synthetic"):
        apply_best("s", path)


def test_every_trial_is_a_nested_run_once(client: MlflowClient) -> None:
    working.work(job(2), Planted())
    study = load_study("s")
    Recorder(job()).catch_up(study)
    Recorder(job()).finish(study, write_report(study, PARAMS))
    experiment = client.get_experiment_by_name("synthetic-survival-tuning")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    (parent,) = [run for run in runs if run.data.tags["level"] == "study"]
    trials = [run for run in runs if run.data.tags["level"] == "trial"]
    assert sorted(run.data.tags["trial"] for run in trials) == ["0", "1"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.data.tags["study"] for run in runs} == {"s"}
    assert all(set(run.data.params) == {"optimisation.learning_rate"} for run in trials)
    assert parent.data.metrics["validation_loss"] == study.best_value


def test_a_trial_that_was_not_written_before_a_kill_is_written_at_the_next_start(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "trial", lambda *arguments: None)
        working.work(job(2), Planted())
    Recorder(job()).catch_up(load_study("s"))
    experiment = client.get_experiment_by_name("synthetic-survival-tuning")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.level = 'trial'")
    assert {run.data.tags["trial"] for run in found} == {"0", "1"}


def test_the_dashboard_shows_the_study_asked_for_or_the_latest(client: MlflowClient) -> None:
    studies.STUDIES.mkdir()
    for name in ("b", "a"):
        journal(name).write_text("")
    latest, named = commands(5000)["Optuna dashboard"], commands(5000, "b")["Optuna dashboard"]
    assert "studies/a.journal" in latest.words
    assert "studies/b.journal" in named.words
    assert "sqlite:///x.db" in commands(5000, "sqlite:///x.db")["Optuna dashboard"].words
    with pytest.raises(InputError, match="there are: a, b"):
        commands(5000, "c")


WORK = """
import time
from tests.dml.ops.test_tuning import Planted, job
from dml.ops.tuning import working
from dml.ops.tuning.recording import Recorder
Recorder.trial = lambda *arguments: None
working.work(job({trials}), Planted(lambda params: (print("begun", flush=True), time.sleep({seconds}))))
"""


def worker(folder: Path, trials: int, seconds: float) -> subprocess.Popen[str]:
    code = WORK.format(trials=trials, seconds=seconds)
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_killed_workers_trial_is_resumed_by_the_next(here: Path) -> None:
    process = worker(here, 3, 60.0)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.kill()
    process.communicate()
    study = load_study("s")
    assert states(study) == ["RUNNING"]
    working.work(job(3), Planted())
    killed, again = load_study("s").get_trials()[:2]
    assert (killed.state, again.params) == (TrialState.FAIL, killed.params)
    assert counted(load_study("s").get_trials()) == 3


@pytest.mark.slow
def test_two_workers_share_a_journal(here: Path) -> None:
    processes = [worker(here, 8, 0.2) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0, 0]
    trials = load_study("s").get_trials()
    assert len(trials) == 8
    assert all(trial.state.is_finished() and trial.state != TrialState.FAIL for trial in trials)
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2
    assert len({trial.params["optimisation.learning_rate"] for trial in trials}) == 8
