"""Search space of a study: the domains of `tuning` in params.yaml, checked against the parameters they tune."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from dml.config.base import section_in
from dml.config.params import Choices, Domain, Params, Range, Scalar, parse
from dml.core.errors import ConfigError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Kind = Literal["teacher", "student"]
Values = dict[str, Any]
"""Parameters by dotted name."""
SECTIONS: Mapping[Kind, tuple[str, ...]] = {
    "teacher": ("model", "optimisation", "teacher", "inputs"),
    "student": ("distillation",),  # the student's model and optimisation are the teacher's, too: tuned with it
}
"""Sections of params.yaml that each kind of study may tune."""
REDEFINING = ("inputs.time_bins", "optimisation.cox_loss_weight", "optimisation.regression_loss")
"""Parameters that change the definition of the validation loss."""
SIGNIFICANT_DIGITS = 4
"""Of a sampled number, so that trials train with what `dml tune apply` writes."""


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
            Naming the key, if the space is empty, names a parameter that does not exist or is not this study's, or
            holds a value that the parameter cannot have.
        """
        domains: Mapping[str, Range | Choices] = getattr(params.tuning, kind)
        if not domains:
            raise ConfigError(f"tuning.{kind}: empty; name parameters to tune, e.g. {SECTIONS[kind][0]}.<name>: ...")
        for name, domain in domains.items():
            _check(params, kind, domains, name, domain)
        ordered = sorted(domains, key=lambda name: bool(domains[name].when))
        return cls(kind, {name: domains[name] for name in ordered})

    def current(self, params: Params) -> Values:
        """Return the present values of params.yaml, which the first trial has.

        Raises
        ------
        ConfigError
            If a value is outside its domain: then it could not be compared with the trials.
        """
        values: Values = {}
        for name, domain in self._active(params, values):
            value, key = value_of(params, name), f"tuning.{self.kind}.{name}"
            if isinstance(domain, Range):
                if isinstance(value, Mapping):
                    raise ConfigError(f"{key}: params.yaml has a value for each task; write one number there")
                if not domain.low <= value <= domain.high:
                    bounds = f"{domain.low:g} to {domain.high:g}"
                    raise ConfigError(f"{key}: {value!r} of params.yaml is outside {bounds}; widen it")
                values[name] = value
                continue
            equal = [choice for choice in domain.choices if _same(choice, value)]
            if not equal:
                raise ConfigError(f"{key}: {value!r} of params.yaml is not among {domain.choices}")
            values[name] = equal[0]
        return values

    def suggest(self, trial: "BaseTrial", params: Params) -> Values:
        """Sample the values of a trial; a parameter whose condition is not met is left out."""
        values: Values = {}
        for name, domain in self._active(params, values):
            values[name] = _sample(trial, name, domain)
        return values

    def largest(self, params: Params, name: str) -> int:
        """Return the largest whole number that a parameter can be in a trial."""
        domain = self.domains.get(name)
        return max(int(value) for value in (extremes(domain) if domain else (value_of(params, name),)))

    def _active(self, params: Params, values: Values) -> Iterator[tuple[str, Range | Choices]]:
        """Yield the domains whose conditions are met by `values`, which the caller fills meanwhile."""
        for name, domain in self.domains.items():
            met = (
                any(_same(values.get(other, value_of(params, other)), choice) for choice in allowed)
                for other, allowed in domain.when.items()
            )
            if all(met):
                yield name, domain


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into nested sections.

    Examples
    --------
    >>> nest({"model.width": 64, "model.linear_offset.components": 5})
    {'model': {'width': 64, 'linear_offset': {'components': 5}}}
    """
    sections: dict[str, Any] = {}
    for name, value in values.items():
        *parents, key = name.split(".")
        reduce(lambda section, parent: section.setdefault(parent, {}), parents, sections)[key] = value
    return sections


def override(params: Params, values: Mapping[str, Any]) -> Params:
    """Set parameters by dotted name.

    Raises
    ------
    ConfigError
        If there is no such parameter, or the values contradict each other.
    """
    content = params.model_dump()
    for name, value in values.items():
        _field(name, "params.yaml")
        *parents, key = name.split(".")
        reduce(lambda section, parent: section[parent], parents, content)[key] = value
    changed: Params = parse(Params, content, f"params.yaml with {dict(values)}")
    return changed


def value_of(params: Params, name: str) -> Any:
    """Look up a parameter by dotted name."""
    return reduce(getattr, name.split("."), params)


def extremes(domain: Domain) -> tuple[Scalar, ...]:
    """Return all choices, or both ends of a range."""
    if isinstance(domain, Choices):
        return domain.choices
    assert isinstance(domain, Range)
    return (int(domain.low), int(domain.high)) if domain.type == "int" else (domain.low, domain.high)


def _sample(trial: "BaseTrial", name: str, domain: Range | Choices) -> Scalar:
    if isinstance(domain, Choices):
        return domain.choices[domain.choices.index(trial.suggest_categorical(name, domain.choices))]
    if domain.type == "int":
        return trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.log)
    value = trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    return min(max(float(f"{value:.{SIGNIFICANT_DIGITS}g}"), domain.low), domain.high)


def _check(params: Params, kind: Kind, domains: Mapping[str, Domain], name: str, domain: Domain) -> None:
    key = f"tuning.{kind}.{name}"
    if name.split(".")[0] not in SECTIONS[kind]:
        raise ConfigError(f"{key}: a {kind} study tunes {', '.join(f'{section}.*' for section in SECTIONS[kind])}")
    field = _field(name, key)
    if name in REDEFINING and params.tuning.objective == "validation_loss":
        what = name.split(".")[1]
        ranking = "spearman" if what == "regression_loss" else "c_index"
        raise ConfigError(f"{key}: losses of different {what} cannot be compared; set tuning.objective to {ranking}")
    for other in domain.when:
        _field(other, f"{key}.when")
        if other in domains and domains[other].when:
            raise ConfigError(f"{key}.when: {other} has a condition itself; name one that has none")
    # each value by itself; whether values of several parameters contradict each other shows in a trial
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
    for value in extremes(domain):
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"{key}: {value!r} is no value of {name}: {error.errors()[0]['msg']}") from None


def _field(name: str, key: str) -> FieldInfo:
    """Return the declaration of a parameter; ConfigError if params.yaml has none of that name."""
    section: type[BaseModel] | None = Params
    *parents, last = name.split(".")
    for parent in parents:
        field = section.model_fields.get(parent) if section else None
        section = section_in(field.annotation) if field else None
    fields = section.model_fields if section and parents else {}
    if last not in fields or section_in(fields[last].annotation):
        known = ", ".join(".".join([*parents, field]) for field in fields) or "sections of params.yaml and their keys"
        raise ConfigError(f"{key}: no parameter {name!r}; there are {known}")
    return fields[last]


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
