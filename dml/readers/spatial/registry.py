"""The formats of spatial expression by tag: every `SpatialFormat` in this folder whose `format` is a ``Literal``."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import dml.readers.spatial as package
from dml.readers.spatial.spatial_format import SpatialFormat
from dml.readers.tagged_formats import any_format, find_formats


@cache
def formats() -> Mapping[str, type[SpatialFormat]]:
    """Return tag -> format."""
    return find_formats(package, SpatialFormat)


if TYPE_CHECKING:
    Spatial = SpatialFormat
else:
    Spatial = any_format(formats())
"""Any of the formats."""
