"""Closed, frozen sections of params.yaml; errors name the key, the value, and what is allowed there."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, Tag, ValidationError

from dml.config.renamed_keys import RENAMED
from dml.core.errors import ConfigError

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A share of a whole, 0 to 1."""


class Section(BaseModel):
    """A part of params.yaml; immutable, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse(kind: type[Section], content: Any, where: str) -> Any:
    """Build a section from plain data.

    Parameters
    ----------
    kind : type
        The section.
    content : object
        What YAML or JSON gave.
    where : str
        File (and key) that the content comes from, for messages.

    Raises
    ------
    ConfigError
        Naming each wrong key, its value, and what is allowed; of a key that was renamed, its new name.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(_explain(kind, dict(problem)) for problem in error.errors())
        raise ConfigError(f"{where}:\n{problems}") from None


def section_in(annotation: Any, tag: str = "") -> type[BaseModel] | None:
    """Return the section inside Optional[...], tuple[..., ...] or dict[str, ...]; of a tagged union, that of `tag`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inside = get_args(annotation)
    tagged = [each for each in inside if Tag(tag) in get_args(each)]
    return next(filter(None, (section_in(each, tag) for each in tagged or inside)), None)


def _explain(kind: type[Section], problem: dict[str, Any]) -> str:
    location = [str(part) for part in problem["loc"]]
    name = ".".join(location)
    if problem["type"] != "extra_forbidden":
        return f"  {name or '(top)'}: {problem['msg']}, found {problem['input']!r}"
    if new := RENAMED.get(name):
        return f"  {name}: renamed to {new}; `dml migrate` rewrites params.yaml and cohorts/*.yaml"
    return f"  {name}: unknown key; allowed here: {', '.join(sorted(_keys_at(kind, location[:-1])))}"


def _keys_at(kind: type[BaseModel], location: list[str]) -> list[str]:
    for part, following in zip(location, [*location[1:], ""], strict=False):
        fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        inner = section_in(fields[part], following) if part in fields else kind  # else: index or key
        if inner is None:
            return []
        kind = inner
    return [field.alias or name for name, field in kind.model_fields.items()]
