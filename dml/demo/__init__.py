"""The `demo` cohort: painted slides, expression and survival that the same two planted factors drive."""

from dml.demo.factors import DemoConfig
from dml.demo.generate import generate

__all__ = ["DemoConfig", "generate"]
