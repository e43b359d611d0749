"""The fixtures of `tests.cohort_tables`."""

from tests.cohort_tables import built, describe, tables

__all__ = ["built", "describe", "tables"]
