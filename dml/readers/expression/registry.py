"""The formats of expression by tag: every `ExpressionFormat` in this folder whose `format` is a ``Literal``."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import Discriminator, Tag

import dml.readers.expression as package
from dml.readers.expression.expression_format import ExpressionFormat

DEFAULT_TAG = "matrix"
"""The format of a description that names none."""


@cache
def formats() -> Mapping[str, type[ExpressionFormat]]:
    """Return tag -> format."""
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
        if module.name != "registry"
    ]
    classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    named = {tag: each for each in classes if issubclass(each, ExpressionFormat) for tag in _tags(each)}
    return dict(sorted(named.items(), key=lambda item: (item[0] != DEFAULT_TAG, item[0])))


def _tags(kind: type[ExpressionFormat]) -> tuple[str, ...]:
    field = kind.model_fields.get("format")
    return get_args(field.annotation) if field is not None else ()


def _tag_of(value: Any) -> str:
    tag = value.get("format", DEFAULT_TAG) if isinstance(value, Mapping) else getattr(value, "format", "")
    return tag if isinstance(tag, str) else ""


if TYPE_CHECKING:
    Expression = ExpressionFormat
else:
    Expression = Annotated[
        Union[tuple(Annotated[kind, Tag(tag)] for tag, kind in formats().items())],  # noqa: UP007
        Discriminator(
            _tag_of,
            custom_error_type="format",
            custom_error_message=f"`format` must be one of {', '.join(formats())}",
        ),
    ]
"""Any of the formats; without `format` it is a plain matrix."""
