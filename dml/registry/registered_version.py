"""One version of a registered model, as the registry describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

METRIC = "metric."
"""Prefix of the tags with the metrics of the evaluation."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of a registered model; `folder` has its files, where that is known without a download."""

    name: str
    version: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    run_id: str
    description: str = ""
    folder: Path | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the evaluation the version was registered with."""
        tagged = {name: value for name, value in self.tags.items() if name.startswith(METRIC)}
        return {name.removeprefix(METRIC): float(value) for name, value in tagged.items()}
