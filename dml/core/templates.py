"""Jinja templates of a package's pages: an unknown name is an error, and HTML is escaped."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

Filter = Callable[..., Any]


def make_environment(package: str, filters: Mapping[str, Filter], trim_blocks: bool = True) -> "Environment":
    """Return the templates in ``<package>/templates``, with filters by name.

    With `trim_blocks` the line break after a tag is dropped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=trim_blocks,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment
