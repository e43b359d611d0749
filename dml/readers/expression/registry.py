"""The formats of expression by tag: every `ExpressionFormat` in this folder whose `format` is a ``Literal``."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import dml.readers.expression as package
from dml.readers.expression.expression_format import ExpressionFormat
from dml.readers.tagged_formats import any_format, find_formats

DEFAULT_TAG = "matrix"
"""The format of a description that names none."""


@cache
def formats() -> Mapping[str, type[ExpressionFormat]]:
    """Return tag -> format."""
    return find_formats(package, ExpressionFormat, DEFAULT_TAG)


if TYPE_CHECKING:
    Expression = ExpressionFormat
else:
    Expression = any_format(formats(), DEFAULT_TAG)
"""Any of the formats; without `format` it is a plain matrix."""
