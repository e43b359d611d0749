"""Write the best values of a study into params.yaml."""

from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from dml.config import params as config
from dml.config.rewrite_yaml import rewrite
from dml.core.errors import InputError
from dml.experiments.tuning.search_space import nest
from dml.experiments.tuning.studies import best_trial, identity_of, load_study


def apply_best(
    name: str, path: Path = Path("params.yaml"), storage: str | None = None, number: int | None = None
) -> tuple[str, FrozenTrial]:
    """Set the values of the best trial, or of the one with a number; comments and layout of the file stay.

    Returns
    -------
    diff, trial
        A unified diff, empty if params.yaml had these values already, and the trial.

    Raises
    ------
    InputError
        If there is no such study, it has no complete trial, or it is about another cohort than params.yaml.
    ConfigError
        If params.yaml would not be valid with the values; nothing is written then.
    """
    study = load_study(name, storage)
    complete = {trial.number: trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    trial = best_trial(study) if number is None else complete.get(number)
    if trial is None:
        problem = "it has no finished trial" if not complete else f"trial {number} is not among its finished ones"
        raise InputError(f"study {name}", problem, "Go on with dml tune, or see its study.md")
    cohort, current = identity_of(study).get("cohort"), config.load(path).cohort
    if cohort != current:
        raise InputError(f"study {name}", f"it is about {cohort}, {path} about {current}", f"dml cohort use {cohort}")
    changes = nest(trial.user_attrs["values"])
    return rewrite(path, lambda content: [changes], f"trial {trial.number} of {name}", f"the best of {name}"), trial
