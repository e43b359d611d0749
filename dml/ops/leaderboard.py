"""Reports and registered versions as rows of tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dml.errors import InputError
from dml.evaluation.tables import MAIN, shown
from dml.files import read_json

Row = dict[str, Any]
Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Report:
    """One evaluated task: a row per model, the best one can do first where it is known."""

    cohort: str
    task: str
    rows: list[Row]


def reports(folder: Path = Path("reports"), raw: Path = Path("data/raw")) -> list[Report]:
    """Read every ``<cohort>/<task>/metrics.json``; a generated cohort's oracle is the first row."""
    found = []
    for path in sorted(folder.glob("*/*/metrics.json")):
        cohort, task = path.parent.parent.name, path.parent.name
        rows = metric_rows(read_json(path))
        found.append(Report(cohort, task, _oracle(raw / cohort / "oracle.json", task, rows) + rows))
    return found


def metric_rows(metrics: Metrics) -> list[Row]:
    """One row a model: the main metrics with their intervals."""
    names = list(dict.fromkeys(name for kind in MAIN.values() for name in kind))
    used = [name for name in names if any(name in own for own in metrics.values())]
    return [{"model": model, **{name: shown(own.get(name)) for name in used}} for model, own in metrics.items()]


def _oracle(path: Path, task: str, rows: list[Row]) -> list[Row]:
    """Show what the planted truth itself reaches: no model can be expected above it."""
    if not path.exists() or not rows:
        return []
    content = read_json(path)
    own = content.get(task, content.get("tasks", {}).get(task, content))
    values = own if isinstance(own, Mapping) else {"auc": own}
    known = {name: values.get(name) for name in rows[0] if name != "model"}
    if not any(isinstance(value, float) for value in known.values()):
        return []
    return [{"model": "oracle", **{n: f"{v:.3f}" if isinstance(v, float) else "" for n, v in known.items()}}]


def registered_rows() -> list[Row]:
    """One row per registered version, newest first within a name."""
    from dml.ops import registry

    return [_version(entry) for name in registry.names() for entry in reversed(registry.versions(name))]


def _version(entry: Any) -> Row:
    metrics = entry.metrics
    main = next((name for name in ("c_index", "auc") if name in metrics), None)
    value = f"{main} {metrics[main]:.3f}" if main else None
    commit, digest = entry.tags.get("git_commit", ""), entry.tags.get("digest", "")
    return {
        "name": entry.name,
        "version": entry.version,
        "aliases": ", ".join(entry.aliases),
        "metric": value,
        "git_commit": commit[:8],
        "weights": digest[:8],
    }


def report_of(cohort: str, task: str, folder: Path = Path("reports")) -> Metrics:
    """Read one report.

    Raises
    ------
    InputError
        If the task was not evaluated.
    """
    path = folder / cohort / task / "metrics.json"
    if not path.exists():
        raise InputError(path, "the file does not exist", "Evaluate first: dvc repro")
    content: Metrics = read_json(path)
    return content
