"""Create, open and resume Optuna studies: storage, compatibility check, recovery after killed workers."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dml.config.params import Params
from dml.core.errors import InputError, listed
from dml.core.files import digest, only_writer
from dml.experiments.tuning.objective import teacher_folder, tuned_folds
from dml.experiments.tuning.pruner import FoldPruner, steps_per_fold
from dml.experiments.tuning.search_space import Kind, Space
from dml.tracking import lineage

STUDIES = Path("studies")
LOCKS = STUDIES / ".locks"
MAXIMISED = ("c_index", "auc", "spearman")
_IDENTITY, _SPACE = "identity", "space."
_HARDWARE = tuple(f"optimisation.{name}" for name in ("device", "devices", "compile", "threads", "workers"))
"""Parameters that decide where a trial is trained, not its result."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StudyJob:
    """A study and how far to bring it.

    Attributes
    ----------
    params : Params
        params.yaml.
    kind : str
        Tuned model: "teacher" or "student".
    task : str
        Task of the model.
    trials : int
        Trials that the study has in the end, so that the same command resumes it.
    name : str
        Name of the study.
    storage : str, optional
        Database URL; by default a journal file.
    reclaim_stale : bool
        Take over running trials of other machines, whose workers cannot be checked from here.
    """

    params: Params
    kind: Kind
    task: str
    trials: int
    name: str
    storage: str | None = None
    reclaim_stale: bool = False

    @property
    def space(self) -> Space:
        """The search space."""
        return Space.of(self.params, self.kind)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock under which trials are claimed and finished."""
        with only_writer(f"study-{self.name}", folder=LOCKS):
            yield


def trial_params(params: Params) -> Params:
    """Return the parameters of trials: as many members as `tuning` says, trained one after the other.

    Trials share the processors, so the members of one do not.
    """
    members = params.tuning.ensemble_size or params.optimisation.ensemble_size
    optimisation = params.optimisation.model_copy(update={"ensemble_size": members, "workers": 1})
    return params.model_copy(update={"optimisation": optimisation})


def default_name(params: Params, kind: Kind, task: str) -> str:
    """Name of a study: ``<cohort>-<task>-<kind>``."""
    return f"{params.cohort}-{task}-{kind}"


def journal_path(name: str) -> Path:
    """File of a study."""
    return STUDIES / f"{name}.journal"


def open_study(job: StudyJob) -> optuna.Study:
    """Open or create a study; its first trial has the present values of params.yaml.

    Raises
    ------
    InputError
        If a study of this name was begun with other parameters, data or search space.
    ConfigError
        If the space does not fit params.yaml.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = _identity(job)
    with job.locked():
        storage = _storage(job.name, job.storage, create=True)
        study = _create(job, storage)
        begun = study.user_attrs.get(_IDENTITY)
        waiting = all(trial.state == TrialState.WAITING for trial in study.get_trials(deepcopy=False))
        if waiting and begun != identity:  # new, or given up before its first trial
            first = job.space.current(job.params)
            optuna.delete_study(study_name=job.name, storage=storage)
            study = _create(job, storage)
            study.enqueue_trial(first, user_attrs={"origin": "params.yaml"})
            study.set_user_attr(_IDENTITY, identity)
        else:
            _check_same(job.name, begun or {}, identity)
    return study


def load_study(name: str, storage: str | None = None) -> optuna.Study:
    """Open a study that exists.

    Raises
    ------
    InputError
        If there is none of this name; the message lists those there are.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.load_study(study_name=name, storage=_storage(name, storage))
    except KeyError:
        known = listed(sorted(path.stem for path in STUDIES.glob("*.journal")), 20) or "none"
        raise InputError(name, "no such study", f"In {STUDIES}/ there are: {known}. Begin one with dml tune") from None


def directions(params: Params) -> list[StudyDirection]:
    """Direction in which each objective improves."""
    first = StudyDirection.MAXIMIZE if params.tuning.objective in MAXIMISED else StudyDirection.MINIMIZE
    return [first] if params.tuning.second_objective == "none" else [first, StudyDirection.MINIMIZE]


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the complete trial of the best quality; of equals the cheapest, then the first; None without any."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    signs = [-1 if direction == StudyDirection.MAXIMIZE else 1 for direction in study.directions]
    return min(complete, key=lambda t: [s * v for s, v in zip(signs, t.values, strict=True)], default=None)


def identity_of(study: optuna.Study) -> Mapping[str, Any]:
    """Return what all trials of a study share: cohort, task, kind, objective, folds, parameters, data."""
    identity: Mapping[str, Any] = study.user_attrs.get(_IDENTITY, {})
    return identity


def _create(job: StudyJob, storage: BaseStorage) -> optuna.Study:
    tuning = job.params.tuning
    objectives: list[str] = [tuning.objective, tuning.second_objective]
    study = optuna.create_study(
        storage=storage,
        study_name=job.name,
        directions=directions(job.params),
        pruner=FoldPruner(tuning.n_startup_trials, steps_per_fold(job.params, job.space)),
        load_if_exists=True,
    )
    if not study.metric_names:
        with warnings.catch_warnings():  # the dashboard calls them Objective 0 and 1 otherwise
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(objectives[: len(study.directions)])
    return study


def _identity(job: StudyJob) -> dict[str, Any]:
    """Collect everything but the tuned values, so that the trials of a study can be compared."""
    params, domains = job.params, job.space.domains
    fixed = lineage.flat(lineage.relevant(params, job.kind))
    return {
        "cohort": params.cohort,
        "task": job.task,
        "kind": job.kind,
        "objective": params.tuning.objective,
        "cost": params.tuning.second_objective,
        "folds": list(tuned_folds(params)),
        **{f"{_SPACE}{name}": domain.model_dump(mode="json") for name, domain in sorted(domains.items())},
        **{name: value for name, value in fixed.items() if name not in (*domains, *_HARDWARE)},
        **lineage.data_hashes(params.cohort),
        **(_teacher_digests(job) if job.kind == "student" else {}),
    }


def _teacher_digests(job: StudyJob) -> dict[str, str]:
    digests = {}
    for fold in tuned_folds(job.params):
        path = teacher_folder(job.params, job.task, fold) / "weights.safetensors"
        if not path.exists():
            raise InputError(path, "the file does not exist", "Train the teachers that are distilled: dvc repro")
        digests[f"teacher of fold {fold}"] = digest(path.read_bytes().hex())
    return digests


def _check_same(name: str, begun: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    # a key that only one has came with another version of the code, or a store that DVC had not recorded then
    shared = {key for key in (*begun, *identity) if key.startswith(_SPACE) or (key in begun and key in identity)}
    changed = [
        f"{key} was {begun.get(key, 'absent')}, is {identity.get(key, 'absent')}"
        for key in sorted(shared)
        if begun.get(key) != identity.get(key)
    ]
    if changed:
        remedy = "Its trials could not be compared with new ones: name another with --study, or put the values back"
        raise InputError(f"study {name}", f"it was begun with other values: {listed(changed)}", remedy)


def _storage(name: str, url: str | None, create: bool = False) -> BaseStorage:
    if url is None:
        return _journal_storage(name, create)
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError, StorageInternalError) as error:
        reason = str(error).splitlines()[0]  # of the address only its kind is shown: it may hold a password
        raise InputError(f"storage {url.split(':')[0]}", f"it cannot be opened ({reason})", "Check --storage") from None


def _journal_storage(name: str, create: bool) -> JournalStorage:
    path = journal_path(name).absolute()
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise KeyError(name)
    lock = JournalFileOpenLock(str(path))  # freed after 30 s if its holder was killed
    if path.exists():
        lock.acquire()
        try:
            _truncate_unfinished_line(path)
        finally:
            lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _truncate_unfinished_line(path: Path) -> None:
    """Remove a line that a killed writer left unfinished: the next one would be appended to it."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        _log.warning("%s: removed an unfinished line of a writer that was killed", path)
        with path.open("r+b") as handle:
            handle.truncate(end)
