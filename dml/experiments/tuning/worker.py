"""Run a study: workers that take trials until there are enough, in this process or several."""

import logging
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from optuna import Study, TrialPruned
from optuna.trial import TrialState

from dml.core.errors import ConfigError, DmlError, InputError
from dml.core.files import only_writer
from dml.experiments.tuning.mlflow_recorder import Recorder
from dml.experiments.tuning.objective import Objective, check_metric, chosen_folds
from dml.experiments.tuning.progress import Progress, block
from dml.experiments.tuning.report import write_report
from dml.experiments.tuning.search_space import overridden
from dml.experiments.tuning.studies import LOCKS, Job, lock_name, open_study, trained_with
from dml.experiments.tuning.teachers import read_teachers
from dml.experiments.tuning.trial_queue import Claim, alive, claim, reclaim
from dml.tracking import store

INTERRUPTED = 130
_log = logging.getLogger(__name__)


def tune(job: Job, workers: int = 1) -> tuple[Study, Path]:
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
        If a store or teacher is missing, or the study was begun otherwise.
    TrackingError
        If the tracking store cannot be opened; nothing was trained then.
    DmlError
        If a worker process died; the same command resumes.
    """
    job = replace(job, params=trained_with(job.params))
    check_metric(job.params, job.task)
    if job.kind == "distil":
        read_teachers(job.params, job.task, chosen_folds(job.params))
    store.connect()
    study = open_study(job)
    recorder = Recorder(job)
    with only_writer(lock_name(job.name), folder=LOCKS):
        reclaim(study, job)
        recorder.catch_up(study)
    died = work(job) if workers == 1 else _together(job, workers)
    with only_writer(lock_name(job.name), folder=LOCKS):
        recorder.catch_up(study)
        folder = write_report(study, job.params)
        recorder.finish(study, folder)
    if died:
        raise DmlError(f"{died} of {workers} workers died (out of memory?). Nothing is lost: run it again")
    return study, folder


def work(job: Job, objective: Objective | None = None, goes_on: Callable[[], bool] = lambda: True) -> int:
    """Take and run trials until the study has enough; returns how many workers died, which is none."""
    study, recorder = open_study(job), Recorder(job)
    judged = objective or Objective.read(job.params, job.kind, job.task)
    with alive() as worker:
        while goes_on() and (taken := claim(study, job, worker)) is not None:
            _log.info("trial %d: %s", taken.trial.number, taken.values)
            state, values = _run(taken, job, judged)
            with only_writer(lock_name(job.name), folder=LOCKS):
                frozen = study.tell(taken.trial, values, state, skip_if_finished=True)
                recorder.trial(study, frozen)
            shown = f" {job.params.tuning.objective} {frozen.values[0]:.4f}" if frozen.values else ""
            _log.info("trial %d: %s%s", frozen.number, frozen.state.name.lower(), shown)
    return 0


def _run(taken: Claim, job: Job, objective: Objective) -> tuple[TrialState, list[float] | None]:
    """Train on fold after fold. Values that cannot be trained with prune the trial, anything else ends the worker."""
    try:
        return TrialState.COMPLETE, _over_folds(taken, job, objective)
    except TrialPruned:
        return TrialState.PRUNED, None
    except InputError:
        raise
    except (DmlError, torch.OutOfMemoryError) as error:
        _log.warning("trial %d cannot be trained: %s", taken.trial.number, error)
        taken.trial.set_user_attr("infeasible", str(error))
        return TrialState.PRUNED, None


def _over_folds(taken: Claim, job: Job, objective: Objective) -> list[float]:
    """Train on fold after fold; return the mean of their values and, where it is asked for, the cost (of the last)."""
    params, tuning = overridden(job.params, taken.values), job.params.tuning
    progress = Progress(
        taken.trial,
        block(job.params, job.space),
        tuning.min_epochs_before_pruning,
        prunes=tuning.second_objective == "none",
    )
    for fold in objective.folds:
        started = time.monotonic()
        score = objective.score(params, fold, progress.epoch)
        taken.trial.set_user_attr(f"fold_{fold}", score.value)
        progress.fold(score.value, last=len(progress.folds) + 1 == len(objective.folds))
        _log.debug("trial %d fold %d: %.1f s", taken.trial.number, fold, time.monotonic() - started)
    return [progress.mean] if score.gflops is None else [progress.mean, score.gflops]


def _together(job: Job, workers: int) -> int:
    """Work in several processes; returns how many of them died.

    Raises
    ------
    DmlError
        The message of a worker that ended with a user error.
    """
    context = multiprocessing.get_context("spawn")
    messages = context.SimpleQueue()
    processes = [context.Process(target=_worker, args=(job, messages)) for _ in range(workers)]
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
    if not messages.empty():
        kind, text = messages.get()
        raise {"InputError": _Told, "ConfigError": ConfigError}.get(kind, DmlError)(text)
    return sum(process.exitcode != 0 for process in processes)


class _Told(DmlError):
    """An InputError of a worker, with its message as it is."""

    exit_code = InputError.exit_code


def _worker(job: Job, messages: "multiprocessing.queues.SimpleQueue[tuple[str, str]]") -> None:
    """Work in a process of its own; it finishes its trial and ends if the process that started it is gone."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("dml.experiments.tuning").setLevel(logging.INFO)
    parent = multiprocessing.parent_process()
    try:
        work(job, goes_on=lambda: parent is None or parent.is_alive())
    except DmlError as error:
        messages.put((type(error).__name__, str(error)))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
