"""Who works on which trial: given out one at a time, and again if the worker is gone."""

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

from dml.core.files import only_writer
from dml.experiments.tuning.search_space import Values
from dml.experiments.tuning.studies import LOCKS, Job, lock_name

ATTEMPTS = 3
"""How often a trial is begun before it is given up: its workers may die of it."""
POPULATION = 12
"""Trials of a generation of the genetic sampler: studies have tens of trials."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """A trial that this worker runs, with the values to train with."""

    trial: Trial
    values: Values


@contextmanager
def alive() -> Iterator[str]:
    """Yield the name of a worker; a lock of that name is held while its process lives, however that ends."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
    path = _life(name)
    with FileLock(path):
        yield name
    path.unlink(missing_ok=True)


def claim(study: Study, job: Job, worker: str) -> Claim | None:
    """Give out the next trial: one whose worker is gone, one that is queued, or a new one; None if all are."""
    space = job.space
    with only_writer(lock_name(job.name), folder=LOCKS):
        reclaim(study, job)
        trials = study.get_trials(deepcopy=False)
        if counted(trials) >= job.trials:
            return None
        study.sampler = sampler(job, len(trials))
        trial = study.ask()
        trial.set_user_attr("worker", worker)
        values = space.suggest(trial, job.params)
        trial.set_user_attr("values", values)
    return Claim(trial, values)


def reclaim(study: Study, job: Job) -> None:
    """Fail trials whose worker is gone and queue their parameters again, each once whenever this is killed itself."""
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get("retry_of") for trial in trials}
    for trial in trials:
        if trial.state != TrialState.RUNNING or not _gone(trial, job):
            continue
        attempt, values = attempts(trial), parameters(trial)
        if trial.number not in queued and values and attempt < ATTEMPTS:
            kept = {key: trial.user_attrs[key] for key in ("origin",) if key in trial.user_attrs}
            study.enqueue_trial(values, user_attrs={**kept, "retry_of": trial.number, "attempt": attempt + 1})
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        then = "its parameters are tried again" if attempt < ATTEMPTS else f"given up after {attempt} attempts"
        _log.warning("trial %d: its worker is gone; %s", trial.number, then)


def counted(trials: Sequence[FrozenTrial]) -> int:
    """Count trials that are finished, given up or at work; failed ones that are tried again are not."""
    done = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return sum(t.state in done or (t.state == TrialState.FAIL and attempts(t) >= ATTEMPTS) for t in trials)


def sampler(job: Job, trials: int) -> BaseSampler:
    """Make the sampler of the next trial: a fixed seed would repeat its suggestions whenever a study is resumed."""
    seed = int(np.random.SeedSequence([job.params.seed, trials]).generate_state(1)[0])
    kind = job.params.tuning.sampler
    if kind == "nsga2":
        return NSGAIISampler(seed=seed, population_size=POPULATION)
    if kind == "gp":
        return GPSampler(seed=seed)
    return RandomSampler(seed=seed) if kind == "random" else TPESampler(seed=seed)


def attempts(trial: FrozenTrial) -> int:
    """How often these parameters were begun."""
    return int(trial.user_attrs.get("attempt", 1))


def parameters(trial: FrozenTrial) -> Values:
    """Return the parameters of a trial, drawn or, before that, queued."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _gone(trial: FrozenTrial, job: Job) -> bool:
    worker = trial.user_attrs.get("worker")
    here = job.storage is None  # the locks lie beside a journal; of a database's other machines nothing is known
    if worker is None:
        return here or job.adopt
    if not here and worker.split(":")[0] != socket.gethostname():
        return job.adopt
    try:
        with FileLock(_life(worker), timeout=0):
            pass
    except Timeout:
        return False
    _life(worker).unlink(missing_ok=True)
    return True


def _life(worker: str) -> Path:
    return LOCKS / f"worker-{worker.replace(':', '-')}.lock"
