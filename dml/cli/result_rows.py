"""Reports and registered versions as rows of tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dml.core.files import read_json
from dml.evaluation.metric_sets import MAIN, PRIMARY
from dml.evaluation.metrics.registry import metric_label
from dml.evaluation.results import sort_models

if TYPE_CHECKING:
    from dml.registry.versions import RegisteredVersion

Row = dict[str, Any]
WITH_INTERVAL = 1
"""Metrics of a printed table that are shown with their interval: more do not fit 80 columns."""
SHORT = 8
"""Characters of a hash that people read."""
Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Report:
    """One evaluated task by model, the best one can do first where it is known."""

    cohort: str
    task: str
    metrics: Metrics


def reports(folder: Path = Path("reports"), raw: Path = Path("data/raw")) -> list[Report]:
    """Read every ``<cohort>/<task>/metrics.json``; a generated cohort's oracle is the first row."""
    found = []
    for path in sorted(folder.glob("*/*/metrics.json")):
        cohort, task = path.parent.parent.name, path.parent.name
        metrics = read_json(path)
        oracle = _oracle(raw / cohort / "oracle.json", task, used(metrics))
        found.append(Report(cohort, task, {**oracle, **{name: metrics[name] for name in sort_models(metrics)}}))
    return found


def used(metrics: Metrics) -> list[str]:
    """Names of the main metrics that a report has, the leading one first."""
    names = dict.fromkeys(name for kind in MAIN.values() for name in kind)
    return [name for name in names if any(name in own for own in metrics.values())]


def metric_rows(metrics: Metrics) -> list[Row]:
    """One row a model for people: the leading metrics with their intervals, the other main ones without."""
    names = used(metrics)
    return [
        {"model": model, **{metric_label(name): _cell(own.get(name), name in names[:WITH_INTERVAL]) for name in names}}
        for model, own in metrics.items()
    ]


def numbers(metrics: Metrics) -> list[Row]:
    """One row a model for machines: every metric as numbers, with the ends of its interval."""
    parts = {"": "value", "_ci_low": "ci_low", "_ci_high": "ci_high"}
    return [
        {"model": model, **{f"{n}{end}": entry.get(part) for n, entry in own.items() for end, part in parts.items()}}
        for model, own in metrics.items()
    ]


def _cell(entry: Mapping[str, Any] | None, with_interval: bool) -> str | None:
    if entry is None:
        return None
    if not with_interval or entry.get("ci_low") is None:
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} ({entry['ci_low']:.3f} to {entry['ci_high']:.3f})"


def _oracle(path: Path, task: str, names: list[str]) -> Metrics:
    """Read what the planted truth of a generated cohort reaches: no model can be expected above it."""
    content = read_json(path) if path.exists() else {}
    values = content if task == "survival" else content.get(task, {})
    known = {name: {"value": values[name]} for name in names if isinstance(values.get(name), float)}
    return {"oracle": known} if known else {}


def registered_rows(whole: bool = False) -> list[Row]:
    """One row per registered version, newest first within a name; `whole` is for machines: all metrics, nothing cut."""
    from dml.registry import versions as registry

    entries = [entry for name in registry.names() for entry in reversed(registry.versions(name))]
    return [_whole(entry) if whole else _brief(entry) for entry in entries]


def _whole(entry: "RegisteredVersion") -> Row:
    return {**_called(entry), "metrics": entry.metrics, **_lineage(entry)}


def _brief(entry: "RegisteredVersion") -> Row:
    metrics = entry.metrics
    main = next((name for name in PRIMARY.values() if name in metrics), None)
    value = f"{metric_label(main)} {metrics[main]:.3f}" if main else None
    return {**_called(entry), "metric": value, **{key: text and text[:SHORT] for key, text in _lineage(entry).items()}}


def _called(entry: "RegisteredVersion") -> Row:
    return {"name": entry.name, "version": entry.version, "aliases": ", ".join(entry.aliases)}


def _lineage(entry: "RegisteredVersion") -> dict[str, str | None]:
    """Say what a version was made by and from; a teacher is only behind a student."""
    tags = entry.tags
    of_run = {"git_commit": tags.get("git_commit"), "weights": tags.get("digest")}
    return {**of_run, "teacher": tags.get("teacher.digest"), "run": entry.run_id}
