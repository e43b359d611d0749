"""Model names for readers: see `dml.models.registry`."""

from dml.models.registry import description as described
from dml.models.registry import entries
from dml.models.registry import label as named

SLIDE_ONLY = tuple(name for name, model in entries().items() if model.family != "ours" and model.inputs == ("slide",))
"""Baselines that read what the student reads."""
__all__ = ["SLIDE_ONLY", "described", "named"]
