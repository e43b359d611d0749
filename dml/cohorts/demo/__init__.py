"""The `demo` cohort: painted slides, expression and survival that the same two planted factors drive."""

from dml.cohorts.demo.factors import Recipe
from dml.cohorts.demo.generation import generate

__all__ = ["Recipe", "generate"]
