"""The formats of spatial expression by tag: every `SpatialFormat` in this folder whose `format` is a ``Literal``."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import Discriminator, Tag

import dml.readers.spatial as package
from dml.readers.spatial.spatial_format import SpatialFormat


@cache
def formats() -> Mapping[str, type[SpatialFormat]]:
    """Return tag -> format."""
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
        if module.name != "registry"
    ]
    classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    named = {tag: each for each in classes if issubclass(each, SpatialFormat) for tag in _tags(each)}
    return dict(sorted(named.items()))


def _tags(kind: type[SpatialFormat]) -> tuple[str, ...]:
    field = kind.model_fields.get("format")
    return get_args(field.annotation) if field is not None else ()


def _tag_of(value: Any) -> str:
    tag = value.get("format", "") if isinstance(value, Mapping) else getattr(value, "format", "")
    return tag if isinstance(tag, str) else ""


if TYPE_CHECKING:
    Spatial = SpatialFormat
else:
    Spatial = Annotated[
        Union[tuple(Annotated[kind, Tag(tag)] for tag, kind in formats().items())],  # noqa: UP007
        Discriminator(
            _tag_of,
            custom_error_type="format",
            custom_error_message=f"`format` must be one of {', '.join(formats())}",
        ),
    ]
"""Any of the formats."""
