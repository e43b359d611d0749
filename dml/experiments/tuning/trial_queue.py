"""Claim trials one at a time; requeue those whose worker ended without finishing them."""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout
from optuna import Study, Trial
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from dml.experiments.tuning.search_space import Values
from dml.experiments.tuning.studies import LOCKS, StudyJob

MAX_ATTEMPTS = 3
"""Attempts at a trial before it is given up: its workers may die of it."""
POPULATION_SIZE = 12
"""Trials of a generation of the genetic sampler: studies have tens of trials."""
_FINAL = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """A trial that this worker runs, with the values to train with."""

    trial: Trial
    values: Values


@contextmanager
def registered_worker() -> Iterator[str]:
    """Yield the name of a worker; a lock of that name is held until its process ends, however that happens."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
    path = _worker_lock(name)
    with FileLock(path):
        yield name
    path.unlink(missing_ok=True)


def claim(study: Study, job: StudyJob, worker: str) -> Claim | None:
    """Claim the next trial: one whose worker ended, one that is queued, or a new one; None if the study has enough."""
    space = job.space
    with job.locked():
        reclaim(study, job)
        trials = study.get_trials(deepcopy=False)
        if count_trials(trials) >= job.trials:
            return None
        study.sampler = make_sampler(job, len(trials))
        trial = study.ask()
        trial.set_user_attr("worker", worker)
        values = space.suggest(trial, job.params)
        trial.set_user_attr("values", values)
    return Claim(trial, values)


def reclaim(study: Study, job: StudyJob) -> None:
    """Fail trials whose worker ended and queue their parameters again, once even if this is killed midway."""
    trials = study.get_trials(deepcopy=False)
    requeued = {trial.user_attrs.get("retry_of") for trial in trials}
    for trial in trials:
        if trial.state != TrialState.RUNNING or not _is_stale(trial, job):
            continue
        attempt = _attempt(trial)
        values = {**trial.system_attrs.get("fixed_params", {}), **trial.params}  # queued, and sampled
        if trial.number not in requeued and values and attempt < MAX_ATTEMPTS:
            origin = {key: trial.user_attrs[key] for key in ("origin",) if key in trial.user_attrs}
            study.enqueue_trial(values, user_attrs={**origin, "retry_of": trial.number, "attempt": attempt + 1})
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        then = "its parameters are tried again" if attempt < MAX_ATTEMPTS else f"given up after {attempt} attempts"
        _log.warning("trial %d: its worker ended; %s", trial.number, then)


def count_trials(trials: Sequence[FrozenTrial]) -> int:
    """Count trials that are finished, given up or running; failed ones that are tried again are not."""
    return sum(t.state in _FINAL or (t.state == TrialState.FAIL and _attempt(t) >= MAX_ATTEMPTS) for t in trials)


def make_sampler(job: StudyJob, n_trials: int) -> BaseSampler:
    """Make the sampler of the next trial: a fixed seed would repeat its suggestions whenever a study is resumed."""
    seed = int(np.random.SeedSequence([job.params.seed, n_trials]).generate_state(1)[0])
    kind = job.params.tuning.sampler
    if kind == "nsga2":
        return NSGAIISampler(seed=seed, population_size=POPULATION_SIZE)
    if kind == "gp":
        return GPSampler(seed=seed)
    return RandomSampler(seed=seed) if kind == "random" else TPESampler(seed=seed)


def _attempt(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("attempt", 1))


def _is_stale(trial: FrozenTrial, job: StudyJob) -> bool:
    worker = trial.user_attrs.get("worker")
    here = job.storage is None  # worker locks lie beside a journal; those of a database's other machines do not
    if worker is None:
        return here or job.reclaim_stale
    if not here and worker.split(":")[0] != socket.gethostname():
        return job.reclaim_stale
    try:
        with FileLock(_worker_lock(worker), timeout=0):
            pass
    except Timeout:
        return False
    _worker_lock(worker).unlink(missing_ok=True)
    return True


def _worker_lock(worker: str) -> Path:
    return LOCKS / f"worker-{worker.replace(':', '-')}.lock"
