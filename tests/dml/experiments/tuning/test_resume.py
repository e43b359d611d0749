"""Studies go on: to their number of trials, after a kill, with several workers, and only with what they began with."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from dml.config.params import Params
from dml.core.errors import InputError
from dml.experiments.tuning import worker
from dml.experiments.tuning.studies import journal_path, load_study, open_study, trial_params
from dml.experiments.tuning.trial_queue import claim, count_trials, reclaim, registered_worker
from tests.planted_store import PARAMS, ROOT, Planted, job, states


def test_a_study_begins_with_params_yaml_and_resumes_to_its_number_of_trials(here: Path) -> None:
    planted = Planted()
    worker.run_trials(job(3), planted)
    worker.run_trials(job(3), planted)
    worker.run_trials(job(5), planted)
    study = load_study("s")
    assert planted.scored[:2] == [(1e-3, 0), (1e-3, 1)]
    assert len(study.get_trials()) == 5
    assert len({trial.params["optimisation.learning_rate"] for trial in study.get_trials()}) == 5
    first = study.get_trials()[0]
    assert first.value == pytest.approx(0.009 + 0.5)
    assert first.user_attrs["fold_1"] == pytest.approx(1.009)


def test_a_trial_of_a_worker_that_is_gone_is_tried_again_once_and_given_up_in_the_end(here: Path) -> None:
    study = open_study(job(2))
    with registered_worker() as name:
        taken = claim(study, job(2), name)
        reclaim(study, job(2))
        assert states(study) == ["RUNNING"]  # its worker lives
    reclaim(study, job(2))
    reclaim(study, job(2))
    assert taken is not None
    assert states(study) == ["FAIL", "WAITING"]
    worker.run_trials(job(2), Planted())
    first, again, other = study.get_trials()
    assert again.params == first.params
    assert again.user_attrs["retry_of"] == first.number
    assert other.state.name in ("COMPLETE", "PRUNED")
    for _ in range(3):
        with registered_worker() as name:
            claim(study, job(3), name)
    reclaim(study, job(3))
    assert count_trials(study.get_trials()) == 3
    assert states(study)[-3:] == ["FAIL"] * 3


def test_killed_between_queueing_and_failing_a_trial_is_not_queued_twice(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(job())
    with registered_worker() as name:
        claim(study, job(), name)

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", killed)
        with pytest.raises(KeyboardInterrupt):
            reclaim(study, job())
    reclaim(study, job())
    assert states(study) == ["FAIL", "WAITING"]


def test_an_unfinished_line_of_the_journal_is_cut_off(here: Path) -> None:
    worker.run_trials(job(2), Planted())
    with journal_path("s").open("a") as handle:
        handle.write('{"op_code": 4, "wor')
    worker.run_trials(job(3), Planted())
    assert len(load_study("s").get_trials()) == 3


def test_missing_input_ends_the_worker_and_the_trial_is_kept_for_the_next(here: Path) -> None:
    def missing(params: Params) -> None:
        raise InputError("splits.parquet", "gone", "Run dvc repro")

    with pytest.raises(InputError):
        worker.run_trials(job(2), Planted(missing))
    worker.run_trials(job(2), Planted())
    assert states(load_study("s"))[0] == "FAIL"
    assert count_trials(load_study("s").get_trials()) == 2


def test_a_study_begun_with_other_parameters_is_not_gone_on_with(here: Path) -> None:
    worker.run_trials(job(1), Planted())
    longer = PARAMS.model_copy(update={"optimisation": PARAMS.optimisation.model_copy(update={"epochs": 9})})
    with pytest.raises(InputError, match=r"optimisation\.epochs was 1, is 9"):
        open_study(job(2, params=longer))
    tuned = PARAMS.model_copy(update={"optimisation": PARAMS.optimisation.model_copy(update={"learning_rate": 2e-3})})
    study = open_study(job(2, params=tuned))  # a value that is tuned may change: dml apply does
    begun = dict(study.user_attrs["identity"])
    del begun["model.width"]
    study.set_user_attr("identity", begun)
    open_study(job(2))  # begun by a version that did not have this parameter


def test_trials_may_have_fewer_members_and_where_they_are_trained_does_not_matter(here: Path) -> None:
    def with_optimisation(**changes: int) -> Params:
        return PARAMS.model_copy(update={"optimisation": PARAMS.optimisation.model_copy(update=changes)})

    many = with_optimisation(ensemble_size=5, workers=2)
    few = many.model_copy(update={"tuning": many.tuning.model_copy(update={"ensemble_size": 2})})
    members = [trial_params(params).optimisation.ensemble_size for params in (many, few)]
    assert members == [5, 2]
    assert {trial_params(params).optimisation.workers for params in (many, few)} == {1}
    worker.run_trials(job(1, params=few), Planted())
    open_study(
        job(
            2,
            params=few.model_copy(update={"optimisation": with_optimisation(ensemble_size=5, threads=2).optimisation}),
        )
    )


def test_a_database_keeps_a_study_for_many_machines(here: Path) -> None:
    url = f"sqlite:///{here}/studies.db"
    worker.run_trials(job(2, storage=url), Planted())
    study = open_study(job(4, storage=url))
    taken = claim(study, job(4, storage=url), "elsewhere:1:abc")
    assert taken is not None
    reclaim(study, job(4, storage=url))
    assert states(load_study("s", url))[-1] == "RUNNING"  # of another machine nothing is known
    worker.run_trials(job(4, storage=url, reclaim_stale=True), Planted())
    trials = load_study("s", url).get_trials()
    assert count_trials(trials) == 4
    assert [trial.params for trial in trials if trial.user_attrs.get("retry_of") == 2] == [trials[2].params]
    assert not journal_path("s").exists()
    with pytest.raises(InputError, match=r"storage nonsense: it cannot be opened") as error:
        load_study("s", "nonsense://me:secret@host/db")
    assert "secret" not in str(error.value)


WORK = """
import time
from tests.planted_store import Planted, job
from dml.experiments.tuning import worker
from dml.experiments.tuning.mlflow_recorder import Recorder
Recorder.trial = lambda *arguments: None
worker.run_trials(job({trials}), Planted(lambda params: (print("begun", flush=True), time.sleep({seconds}))))
"""


def start_worker(folder: Path, trials: int, seconds: float) -> subprocess.Popen[str]:
    code = WORK.format(trials=trials, seconds=seconds)
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_killed_workers_trial_is_resumed_by_the_next(here: Path) -> None:
    process = start_worker(here, 3, 60.0)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.kill()
    process.communicate()
    study = load_study("s")
    assert states(study) == ["RUNNING"]
    worker.run_trials(job(3), Planted())
    killed, again = load_study("s").get_trials()[:2]
    assert (killed.state, again.params) == (TrialState.FAIL, killed.params)
    assert count_trials(load_study("s").get_trials()) == 3


@pytest.mark.slow
def test_two_workers_share_a_journal(here: Path) -> None:
    processes = [start_worker(here, 8, 0.2) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=600)
    assert [process.returncode for process in processes] == [0, 0]
    trials = load_study("s").get_trials()
    assert len(trials) == 8
    assert all(trial.state.is_finished() and trial.state != TrialState.FAIL for trial in trials)
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2
    assert len({trial.params["optimisation.learning_rate"] for trial in trials}) == 8
