"""Where studies are kept, what makes one the same study, and how one is opened whatever happened to its writers."""

import logging
import warnings
from collections.abc import Mapping
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
from dml.experiments.tuning.objective import chosen_folds
from dml.experiments.tuning.progress import block
from dml.experiments.tuning.pruner import FoldPruner
from dml.experiments.tuning.search_space import MODELS, Kind, Space
from dml.experiments.tuning.teachers import teacher_folder
from dml.tracking import lineage

STUDIES = Path("studies")
LOCKS = STUDIES / ".locks"
MAXIMISED = ("c_index", "auc")
_IDENTITY, _SPACE = "identity", "space."
_WHERE = tuple(f"optimisation.{name}" for name in ("device", "devices", "compile", "threads", "workers"))
"""Say where a trial is trained and not with what."""


@dataclass(frozen=True, slots=True)
class Job:
    """A study to work on. `trials` is how many it shall have in the end, so that the same command resumes it."""

    params: Params
    kind: Kind
    task: str
    trials: int
    name: str
    storage: str | None = None
    adopt: bool = False

    @property
    def model(self) -> str:
        """Name of the model that the study is about."""
        return MODELS[self.kind]

    @property
    def space(self) -> Space:
        """Where it looks."""
        return Space.of(self.params, self.kind)


def trained_with(params: Params) -> Params:
    """Return the parameters of a study's trials: so many members as `tuning` says, one after the other.

    Trials share the processors, so the members of one do not.
    """
    members = params.tuning.ensemble_size or params.optimisation.ensemble_size
    optimisation = params.optimisation.model_copy(update={"members": members, "workers": 1})
    return params.model_copy(update={"optimisation": optimisation})


def default_name(params: Params, kind: Kind, task: str) -> str:
    """Name of a study: ``<cohort>-<task>-<kind>``."""
    return f"{params.cohort}-{task}-{kind}"


def journal(name: str) -> Path:
    """File of a study."""
    return STUDIES / f"{name}.journal"


def lock_name(name: str) -> str:
    """Name of the lock under which trials of a study are given out and finished."""
    return f"study-{name}"


def open_study(job: Job) -> optuna.Study:
    """Open or create a study; its first trial is what params.yaml says now.

    Raises
    ------
    InputError
        If a study of this name was begun with other parameters, data or search space.
    ConfigError
        If the space does not fit params.yaml.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    own = identity(job)
    with only_writer(lock_name(job.name), folder=LOCKS):
        storage = _storage(job.name, job.storage, create=True)
        study = _created(job, storage)
        begun = study.user_attrs.get(_IDENTITY)
        waiting = all(trial.state == TrialState.WAITING for trial in study.get_trials(deepcopy=False))
        if waiting and begun != own:  # new, or given up before its first trial
            first = job.space.current(job.params)
            optuna.delete_study(study_name=job.name, storage=storage)
            study = _created(job, storage)
            study.enqueue_trial(first, user_attrs={"origin": "params.yaml"})
            study.set_user_attr(_IDENTITY, own)
            _name_objectives(study, job.params)
        else:
            _check_same(job, begun or {}, own)
    return study


def _created(job: Job, storage: BaseStorage) -> optuna.Study:
    return optuna.create_study(
        storage=storage,
        study_name=job.name,
        directions=directions(job.params),
        pruner=FoldPruner(job.params.tuning.n_startup_trials, block(job.params, job.space)),
        load_if_exists=True,
    )


def _name_objectives(study: optuna.Study, params: Params) -> None:
    """Say what the objectives are; the dashboard calls them Objective 0 and 1 otherwise."""
    names: list[str] = [params.tuning.objective, params.tuning.second_objective]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(names[: len(study.directions)])


def directions(params: Params) -> list[StudyDirection]:
    """Where better values of each objective lie."""
    first = StudyDirection.MAXIMIZE if params.tuning.objective in MAXIMISED else StudyDirection.MINIMIZE
    return [first] if params.tuning.second_objective == "none" else [first, StudyDirection.MINIMIZE]


def best_of(study: optuna.Study) -> FrozenTrial | None:
    """Return the complete trial of the best quality; of equals the cheapest, then the first; None without any."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    signs = [-1 if direction == StudyDirection.MAXIMIZE else 1 for direction in study.directions]
    return min(complete, key=lambda t: [s * v for s, v in zip(signs, t.values, strict=True)], default=None)


def front(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials that no other beats in every objective, by the first; the best alone if there is one."""
    found = study.best_trials if best_of(study) is not None else []
    return sorted(found, key=lambda trial: trial.values)


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


def identity(job: Job) -> dict[str, Any]:
    """Collect what all trials of a study share, so that they can be compared: everything but the tuned values."""
    space, task = job.space, job.task
    base = lineage.flat(lineage.relevant(job.params, job.model))
    return {
        "cohort": job.params.cohort,
        "task": task,
        "kind": job.kind,
        "objective": job.params.tuning.objective,
        "cost": job.params.tuning.second_objective,
        "folds": list(chosen_folds(job.params)),
        **{f"{_SPACE}{name}": domain.model_dump(mode="json") for name, domain in sorted(space.domains.items())},
        **{name: value for name, value in base.items() if name not in (*space.domains, *_WHERE)},
        **lineage.data_hashes(job.params.cohort),
        **(_teachers(job) if job.kind == "distil" else {}),
    }


def subject(study: optuna.Study) -> Mapping[str, Any]:
    """Return what a study is about: cohort, task, kind, objective, folds."""
    found: Mapping[str, Any] = study.user_attrs.get(_IDENTITY, {})
    return found


def _teachers(job: Job) -> dict[str, str]:
    found = {}
    for fold in chosen_folds(job.params):
        path = teacher_folder(job.params, job.task) / f"fold-{fold}" / "weights.safetensors"
        if not path.exists():
            raise InputError(path, "the file does not exist", "Train the teachers that are distilled: dvc repro")
        found[f"teacher of fold {fold}"] = digest(path.read_bytes().hex())
    return found


def _check_same(job: Job, begun: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    # a key that only one knows came with another version of the code, or a store that DVC had not recorded then
    shared = {key for key in (*begun, *own) if key.startswith(_SPACE) or (key in begun and key in own)}
    changed = [
        f"{key} was {begun.get(key, 'absent')}, is {own.get(key, 'absent')}"
        for key in sorted(shared)
        if begun.get(key) != own.get(key)
    ]
    if changed:
        remedy = "Its trials could not be compared with new ones: name another with --study, or put the values back"
        raise InputError(f"study {job.name}", f"it was begun otherwise: {listed(changed)}", remedy)


def _storage(name: str, url: str | None, create: bool = False) -> BaseStorage:
    if url is None:
        return _journal_storage(name, create)
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError, StorageInternalError) as error:
        said = str(error).splitlines()[0]  # of the address only its kind is shown: it may hold a password
        raise InputError(f"storage {url.split(':')[0]}", f"it cannot be opened ({said})", "Check --storage") from None


def _journal_storage(name: str, create: bool) -> JournalStorage:
    path = journal(name).absolute()
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise KeyError(name)
    lock = JournalFileOpenLock(str(path))  # freed after 30 s if its holder was killed
    if path.exists():
        lock.acquire()
        try:
            _mend(path)
        finally:
            lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _mend(path: Path) -> None:
    """Cut off a line that a killed writer left unfinished: the next one would be appended to it."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        logging.getLogger(__name__).warning("%s: cut off an unfinished line of a writer that was killed", path)
        with path.open("r+b") as handle:
            handle.truncate(whole)
