"""Closed, frozen settings whose errors name the wrong key, what was found, and what is allowed there."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Tag, ValidationError

from dml.core.errors import ConfigError


class Section(BaseModel):
    """A part of params.yaml; immutable and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse(kind: type[Section], content: Any, where: str) -> Any:
    """Build a section from plain data.

    Raises
    ------
    ConfigError
        Naming each wrong key, what was found, and what is allowed.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(_explained(kind, dict(problem)) for problem in error.errors())
        raise ConfigError(f"{where}:\n{problems}") from None


def _explained(kind: type[Section], problem: dict[str, Any]) -> str:
    location = [str(part) for part in problem["loc"]]
    text = f"  {'.'.join(location) or '(top)'}: {problem['msg']}, found {problem['input']!r}"
    if problem["type"] == "extra_forbidden":
        text = f"  {'.'.join(location)}: unknown key; allowed here: {', '.join(sorted(_keys_at(kind, location[:-1])))}"
    return text


def _keys_at(kind: type[BaseModel], location: list[str]) -> list[str]:
    for part, following in zip(location, [*location[1:], ""], strict=False):
        named = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        inner = _section_in(named[part], following) if part in named else kind  # an index of a list, a key of a mapping
        if inner is None:
            return []
        kind = inner
    return [field.alias or name for name, field in kind.model_fields.items()]


def _section_in(annotation: Any, tag: str = "") -> type[BaseModel] | None:
    """Find the section inside Optional[...], tuple[..., ...] or dict[str, ...]; of a tagged union, the one of `tag`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inside = get_args(annotation)
    tagged = [each for each in inside if Tag(tag) in get_args(each)]
    return next(filter(None, (_section_in(each, tag) for each in tagged or inside)), None)
