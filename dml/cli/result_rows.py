"""Reports and registered versions as rows of tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dml.core.files import read_json
from dml.evaluation.metric_sets import PRIMARY, main_metrics
from dml.evaluation.metrics.registry import metric_label
from dml.evaluation.results import sort_models

if TYPE_CHECKING:
    from dml.registry.versions import RegisteredVersion

Row = dict[str, Any]
WITH_INTERVAL = 1
"""Metrics of a table that have their interval: more do not fit 80 columns."""
SHORT_HASH = 8
"""Characters of a hash in tables."""
Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Report:
    """Metrics of one task by model; of a generated cohort, the oracle's first."""

    cohort: str
    task: str
    metrics: Metrics


def reports(folder: Path = Path("reports"), raw: Path = Path("data/raw")) -> list[Report]:
    """Read every ``<cohort>/<task>/metrics.json``; a generated cohort's oracle is the first row."""
    result = []
    for path in sorted(folder.glob("*/*/metrics.json")):
        cohort, task = path.parent.parent.name, path.parent.name
        metrics = read_json(path)
        oracle = _oracle(raw / cohort / "oracle.json", task, used(metrics))
        result.append(Report(cohort, task, {**oracle, **{name: metrics[name] for name in sort_models(metrics)}}))
    return result


def used(metrics: Metrics) -> list[str]:
    """Names of the main metrics that a report has, the leading one first."""
    return main_metrics({name for values in metrics.values() for name in values})


def metric_rows(metrics: Metrics) -> list[Row]:
    """One row a model for people: the leading metrics with their intervals, the other main ones without."""
    names = used(metrics)
    return [
        {
            "model": model,
            **{metric_label(name): _cell(values.get(name), name in names[:WITH_INTERVAL]) for name in names},
        }
        for model, values in metrics.items()
    ]


def numbers(metrics: Metrics) -> list[Row]:
    """One row a model for machines: every metric as numbers, with the ends of its interval."""
    parts = {"": "value", "_ci_low": "ci_low", "_ci_high": "ci_high"}
    return [
        {"model": model, **{f"{n}{end}": entry.get(part) for n, entry in values.items() for end, part in parts.items()}}
        for model, values in metrics.items()
    ]


def _cell(entry: Mapping[str, Any] | None, with_interval: bool) -> str | None:
    if entry is None:
        return None
    if not with_interval or entry.get("ci_low") is None:
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} ({entry['ci_low']:.3f} to {entry['ci_high']:.3f})"


def _oracle(path: Path, task: str, names: list[str]) -> Metrics:
    """Read the metrics of the true risks of a generated cohort: an upper bound for every model."""
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
    return {**_identity(entry), "metrics": entry.metrics, **_lineage(entry)}


def _brief(entry: "RegisteredVersion") -> Row:
    metrics = entry.metrics
    main = next((name for name in PRIMARY.values() if name in metrics), None)
    value = f"{metric_label(main)} {metrics[main]:.3f}" if main else None
    return {
        **_identity(entry),
        "metric": value,
        **{key: text and text[:SHORT_HASH] for key, text in _lineage(entry).items()},
    }


def _identity(entry: "RegisteredVersion") -> Row:
    return {"name": entry.name, "version": entry.version, "aliases": ", ".join(entry.aliases)}


def _lineage(entry: "RegisteredVersion") -> dict[str, str | None]:
    """Commit, weights and run of a version; of a student also its teacher."""
    tags = entry.tags
    of_run = {"git_commit": tags.get("git_commit"), "weights": tags.get("digest")}
    return {**of_run, "teacher": tags.get("teacher.digest"), "run": entry.run_id}
