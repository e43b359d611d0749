"""Run a study: workers that claim trials until there are enough, in this process or several."""

import logging
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from optuna import Study, TrialPruned
from optuna.trial import TrialState

from dml.core.errors import DmlError, InputError
from dml.experiments.tuning.mlflow_recorder import Recorder
from dml.experiments.tuning.objective import Objective, check_objective, read_teachers
from dml.experiments.tuning.pruner import TrialProgress, steps_per_fold
from dml.experiments.tuning.report import write_report
from dml.experiments.tuning.search_space import override
from dml.experiments.tuning.studies import StudyJob, open_study, trial_params
from dml.experiments.tuning.trial_queue import Claim, claim, reclaim, registered_worker
from dml.tracking import store

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

INTERRUPTED = 130
_log = logging.getLogger(__name__)


def tune(job: StudyJob, workers: int = 1) -> tuple[Study, Path]:
    """Bring a study to its number of trials and write its report.

    Returns
    -------
    study, path
        The study, and the folder of its report.

    Raises
    ------
    ConfigError
        If task, objective, folds or search space do not fit params.yaml.
    InputError
        If a store or teacher is missing, or the study was begun with other values.
    TrackingError
        If the tracking store cannot be opened; nothing was trained then.
    DmlError
        If a worker process died; the same command resumes.
    """
    job = replace(job, params=trial_params(job.params))
    check_objective(job.params, job.task)
    if job.kind == "student":
        read_teachers(job.params, job.task)
    store.connect()
    study = open_study(job)
    recorder = Recorder(job)
    with job.locked():
        reclaim(study, job)
        recorder.catch_up(study)
    died = 0
    if workers == 1:
        run_trials(job)
    else:
        died = _run_processes(job, workers)
    with job.locked():
        recorder.catch_up(study)
        folder = write_report(study, job.params)
        recorder.finish(study, folder)
    if died:
        raise DmlError(f"{died} of {workers} workers died (out of memory?). Nothing is lost: run it again")
    return study, folder


def run_trials(job: StudyJob, objective: Objective | None = None, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Claim and run trials until the study has enough."""
    study, recorder = open_study(job), Recorder(job)
    objective = objective or Objective.read(job.params, job.kind, job.task)
    with registered_worker() as worker:
        while goes_on() and (claimed := claim(study, job, worker)) is not None:
            _log.info("trial %d: %s", claimed.trial.number, claimed.values)
            state, values = _run(claimed, job, objective)
            with job.locked():
                trial = study.tell(claimed.trial, values, state, skip_if_finished=True)
                recorder.trial(study, trial)
            value = f" {job.params.tuning.objective} {trial.values[0]:.4f}" if trial.values else ""
            _log.info("trial %d: %s%s", trial.number, trial.state.name.lower(), value)


def _run(claimed: Claim, job: StudyJob, objective: Objective) -> tuple[TrialState, list[float] | None]:
    """Train on fold after fold. Values that cannot be trained with prune the trial, anything else ends the worker."""
    try:
        return TrialState.COMPLETE, _score_folds(claimed, job, objective)
    except TrialPruned:
        return TrialState.PRUNED, None
    except InputError:
        raise
    except (DmlError, torch.OutOfMemoryError) as error:
        _log.warning("trial %d cannot be trained: %s", claimed.trial.number, error)
        claimed.trial.set_user_attr("infeasible", str(error))
        return TrialState.PRUNED, None


def _score_folds(claimed: Claim, job: StudyJob, objective: Objective) -> list[float]:
    """Return the mean value of the folds and, where it is an objective, the cost (of the last fold's model)."""
    params, tuning = override(job.params, claimed.values), job.params.tuning
    steps, prunes = steps_per_fold(job.params, job.space), tuning.second_objective == "none"
    progress = TrialProgress(claimed.trial, steps, tuning.min_epochs_before_pruning, prunes)
    for fold in objective.folds:
        start = time.monotonic()
        score = objective.score(params, fold, progress.end_epoch)
        claimed.trial.set_user_attr(f"fold_{fold}", score.value)
        progress.end_fold(score.value, last=len(progress.folds) + 1 == len(objective.folds))
        _log.debug("trial %d fold %d: %.1f s", claimed.trial.number, fold, time.monotonic() - start)
    return [progress.mean] if score.gflops is None else [progress.mean, score.gflops]


def _run_processes(job: StudyJob, workers: int) -> int:
    """Run trials in several processes; returns how many of them died. A user error of one is raised here."""
    context = multiprocessing.get_context("spawn")
    errors: SimpleQueue[DmlError] = context.SimpleQueue()
    processes = [context.Process(target=_run_process, args=(job, errors)) for _ in range(workers)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.join(timeout=10)
        raise
    finally:
        for process in processes:
            process.kill()
    if not errors.empty():
        raise errors.get()
    return sum(process.exitcode != 0 for process in processes)


def _run_process(job: StudyJob, errors: "SimpleQueue[DmlError]") -> None:
    """Run trials in a process of its own; it finishes its trial and ends if the process that started it ended."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("dml.experiments.tuning").setLevel(logging.INFO)
    parent = multiprocessing.parent_process()
    try:
        run_trials(job, goes_on=lambda: parent is None or parent.is_alive())
    except DmlError as error:
        errors.put(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
