"""What a report shows, before it is laid out: the numbers, the figures, and the patients they are of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dml.core.types import Kind
from dml.report.context import About
from dml.report.figure_list import Diagram

OURS = ("teacher", "student")


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything a page or a card shows of one task."""

    about: About
    task: str
    kind: Kind
    metrics: Mapping[str, Any]
    compared: Mapping[str, Any]
    details: Mapping[str, Any]
    diagrams: Sequence[Diagram]
    subgroups: Sequence[str]
    limitations: Sequence[str]
