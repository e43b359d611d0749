"""The generated `demo` cohort: painted slides, expression and survival that depend on the same two planted factors."""

from dml.demo.factors import DemoConfig
from dml.demo.generate import generate_cohort

__all__ = ["DemoConfig", "generate_cohort"]
