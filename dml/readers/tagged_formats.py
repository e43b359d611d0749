"""File formats that a cohort description chooses by the tag ``format``: one file of a folder each, found by itself."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any, Union, get_args

from pydantic import BaseModel, Discriminator, Tag


def find_formats(package: ModuleType, base: type[Any], default: str = "") -> dict[str, type[Any]]:
    """Return the subclasses of `base` in a package by the tag that their field `format` allows; the default first."""
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
        if module.name != "registry"
    ]
    classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    named = {tag: each for each in classes if issubclass(each, base) for tag in _tags(each)}
    return dict(sorted(named.items(), key=lambda item: (item[0] != default, item[0])))


def any_format(formats: Mapping[str, type[BaseModel]], default: str = "") -> Any:
    """Return the type of a section that is one of some formats, given by its key `format`."""

    def tag_of(value: Any) -> str:
        tag = value.get("format", default) if isinstance(value, Mapping) else getattr(value, "format", "")
        return tag if isinstance(tag, str) else ""

    return Annotated[
        Union[tuple(Annotated[kind, Tag(tag)] for tag, kind in formats.items())],  # noqa: UP007
        Discriminator(
            tag_of,
            custom_error_type="format",
            custom_error_message=f"`format` must be one of {', '.join(formats)}",
        ),
    ]


def _tags(kind: type[BaseModel]) -> tuple[str, ...]:
    field = kind.model_fields.get("format")
    return get_args(field.annotation) if field is not None else ()
