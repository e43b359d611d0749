"""Write the best values of a study into params.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dml.config import params as config
from dml.config.rewrite_yaml import rewrite
from dml.core.errors import InputError
from dml.experiments.tuning.studies import best_of, load_study, subject


def apply_best(
    name: str, path: Path = Path("params.yaml"), storage: str | None = None, number: int | None = None
) -> tuple[str, FrozenTrial]:
    """Set what the best trial, or the one of a number, had; comments and layout of the file stay.

    Returns
    -------
    diff, trial
        A unified diff, empty if params.yaml said so already, and the trial.

    Raises
    ------
    InputError
        If there is no such study, it has no complete trial, or is about another cohort than params.yaml.
    ConfigError
        If params.yaml would not be valid with the values; nothing is written then.
    """
    study = load_study(name, storage)
    complete = {trial.number: trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    best = best_of(study) if number is None else complete.get(number)
    if best is None:
        found = "it has no finished trial" if not complete else f"trial {number} is not among its finished ones"
        raise InputError(f"study {name}", found, "Go on with dml tune, or look at its study.md")
    cohort, current = subject(study).get("cohort"), config.load(path).cohort
    if cohort != current:
        raise InputError(f"study {name}", f"it is about {cohort}, {path} about {current}", f"dml cohort use {cohort}")
    changes = nested(best.user_attrs["values"])
    return rewrite(path, lambda content: [changes], f"trial {best.number} of {name}", f"the best of {name}"), best


def nested(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turn dotted names into sections."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, key = name.split(".")
        sections.setdefault(section, {})[key] = value
    return sections
