"""The `demo` cohort: painted slides, expression and survival that the same two planted factors drive."""

from dml.demo.factors import Recipe
from dml.demo.generate import generate

__all__ = ["Recipe", "generate"]
