"""Where a study looks: the domains of `tuning` in params.yaml, checked against the values they tune."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from dml.config.params import Choices, Domain, Params, Range, Scalar, parse
from dml.core.errors import ConfigError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Kind = Literal["teacher", "distil"]
Values = dict[str, Any]
"""Dotted names of parameters and what they are set to."""
SECTIONS: Mapping[Kind, tuple[str, ...]] = {
    "teacher": ("model", "optimisation", "teacher", "inputs"),
    "distil": ("distillation",),  # the student's model and optimisation are the teacher's, too: tuned with it
}
MODELS: Mapping[Kind, str] = {"teacher": "teacher", "distil": "student"}
REDEFINING = ("inputs.time_bins", "optimisation.cox_loss_weight")
"""Parameters that change what the validation loss is."""
DIGITS = 4
"""Significant digits of a sampled number, so that what is trained with is what params.yaml will say."""


@dataclass(frozen=True, slots=True)
class Space:
    """The domains of one kind of study, by dotted name; those with conditions last."""

    kind: Kind
    domains: Mapping[str, Range | Choices]

    @classmethod
    def of(cls, params: Params, kind: Kind) -> "Space":
        """Take a space from params.yaml.

        Raises
        ------
        ConfigError
            Naming the key, if the space is empty, names a parameter that is not there or not this study's, or holds a
            value that the parameter cannot have.
        """
        found = params.tuning.teacher if kind == "teacher" else params.tuning.student
        if not found:
            raise ConfigError(f"tuning.{kind}: empty; name the values to tune, e.g. {SECTIONS[kind][0]}.<name>: ...")
        for name, domain in found.items():
            _check(params, kind, name, domain)
        ordered = sorted(found, key=lambda name: bool(found[name].when))
        return cls(kind, {name: found[name] for name in ordered})

    def current(self, params: Params) -> Values:
        """Return what params.yaml says now, the values of the first trial.

        Raises
        ------
        ConfigError
            If a value is outside its domain: then it could not be compared with the trials.
        """
        values: Values = {}
        for name, domain in self._active(params, values):
            value = value_of(params, name)
            inside = [choice for choice in _choices(domain) if _same(choice, value)]
            if isinstance(domain, Choices) and not inside:
                raise ConfigError(f"tuning.{self.kind}.{name}: {value!r} of params.yaml is not among {domain.choices}")
            if isinstance(domain, Range) and not domain.low <= value <= domain.high:
                where = f"{domain.low:g} to {domain.high:g}"
                raise ConfigError(f"tuning.{self.kind}.{name}: {value!r} of params.yaml is outside {where}; widen it")
            values[name] = inside[0] if inside else value
        return values

    def suggest(self, trial: "BaseTrial", params: Params) -> Values:
        """Draw values for a trial; a parameter whose condition is not met is left out."""
        values: Values = {}
        for name, domain in self._active(params, values):
            values[name] = _drawn(trial, name, domain)
        return values

    def _active(self, params: Params, values: Values) -> Any:
        """Yield the domains whose conditions are met by the values so far, which grow meanwhile."""
        for name, domain in self.domains.items():
            met = (
                any(_same(values.get(other, value_of(params, other)), choice) for choice in allowed)
                for other, allowed in domain.when.items()
            )
            if all(met):
                yield name, domain


def overridden(params: Params, values: Mapping[str, Any]) -> Params:
    """Set values by dotted name.

    Raises
    ------
    ConfigError
        If they do not go together.
    """
    content = params.model_dump()
    for name, value in values.items():
        section, key = name.split(".")
        content[section][key] = value
    changed: Params = parse(Params, content, f"params.yaml with {dict(values)}")
    return changed


def most(params: Params, space: Space, name: str) -> int:
    """Largest whole number that a parameter can be in a study."""
    domain = space.domains.get(name)
    values = (value_of(params, name),) if domain is None else _choices(domain)
    return max(int(value) for value in values)


def value_of(params: Params, name: str) -> Any:
    """Look up a dotted name."""
    return reduce(getattr, name.split("."), params)


def _drawn(trial: "BaseTrial", name: str, domain: Range | Choices) -> Scalar:
    if isinstance(domain, Choices):
        return domain.choices[domain.choices.index(trial.suggest_categorical(name, domain.choices))]
    if domain.type == "int":
        return trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.log)
    value = trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    return min(max(float(f"{value:.{DIGITS}g}"), domain.low), domain.high)


def _check(params: Params, kind: Kind, name: str, domain: Range | Choices) -> None:
    where = f"tuning.{kind}.{name}"
    _check_name(params, kind, name, where)
    if name in REDEFINING and params.tuning.objective == "validation_loss":
        what = name.split(".")[1]
        raise ConfigError(f"{where}: losses of different {what} cannot be compared; set tuning.objective to c_index")
    tuned = getattr(params.tuning, kind)
    for other in domain.when:
        _known(params, other, f"{where}.when")
        if other in tuned and tuned[other].when:
            raise ConfigError(f"{where}.when: {other} has a condition itself; name one that has none")
    for value in _choices(domain):
        _check_value(params, name, value, where)


def _check_name(params: Params, kind: Kind, name: str, where: str) -> None:
    section = name.split(".")[0]
    if section not in SECTIONS[kind]:
        allowed = ", ".join(f"{section}.*" for section in SECTIONS[kind])
        raise ConfigError(f"{where}: a {kind} study tunes {allowed}")
    _known(params, name, where)


def _known(params: Params, name: str, where: str) -> None:
    section, _, key = name.partition(".")
    fields = type(getattr(params, section, None))
    known = getattr(fields, "model_fields", {})
    if key not in known:
        there = ", ".join(f"{section}.{field}" for field in known) or "sections of params.yaml and their keys"
        raise ConfigError(f"{where}: no parameter {name!r}; there are {there}")


def _check_value(params: Params, name: str, value: Scalar, where: str) -> None:
    """Validate one value by itself; whether values go together is seen when they meet."""
    section, key = name.split(".")
    content = getattr(params, section).model_dump() | {key: value}
    try:
        type(getattr(params, section)).model_validate(content)
    except ValidationError as error:
        own = [problem["msg"] for problem in error.errors() if problem["loc"] and problem["loc"][0] == key]
        if own:
            raise ConfigError(f"{where}: {value!r} is no value of {name}: {own[0]}") from None


def _choices(domain: Domain) -> tuple[Scalar, ...]:
    if isinstance(domain, Choices):
        return domain.choices
    assert isinstance(domain, Range)
    return (int(domain.low), int(domain.high)) if domain.type == "int" else (domain.low, domain.high)


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
