"""Metrics as readable tables: rows of strings for Markdown and for the page."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dml.core.types import Kind
from dml.report.names import named

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]
MAIN = {
    "survival": ("c_index", "c_uno", "ibs", "calibration_slope"),
    "classification": ("auc", "balanced_accuracy", "f1", "ece", "brier", "calibration_slope"),
}
"""Metrics of the main table, after which those per horizon or class follow."""
TITLES = {
    "c_index": "Harrell C",
    "c_uno": "Uno C",
    "ibs": "Integrated Brier",
    "ibs_null": "Integrated Brier of Kaplan-Meier",
    "calibration_slope": "Calibration slope",
    "auc": "AUC",
    "balanced_accuracy": "Balanced accuracy",
    "f1": "Macro F1",
    "ece": "Calibration error",
    "brier": "Brier",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A heading of columns and rows of text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def subset(self, first: Collection[str]) -> "Table":
        """Keep the rows that begin with some names."""
        return Table(self.columns, tuple(row for row in self.rows if row[0] in first))

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def title(metric: str) -> str:
    """Return a metric's name as a reader says it: ``auc_3y`` is AUC at 3 years, ``recall_G2`` recall of G2."""
    if metric in TITLES:
        return TITLES[metric]
    at = re.fullmatch(r"(auc|oe)_([\d.]+)y", metric)
    if at:
        return f"{'AUC' if at[1] == 'auc' else 'Observed/expected'} at {at[2]} y"
    first, _, rest = metric.partition("_")
    if first == "oe":
        return f"Observed/expected {rest}"
    return f"{first.upper() if first == 'auc' else first.capitalize()} {rest}".strip()


def shown(entry: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Print a value with its interval, a hyphen where there is none."""
    if entry is None or entry["value"] is None:
        return "-"
    if entry.get("ci_low") is None:
        return f"{entry['value']:.{digits}f}"
    return f"{entry['value']:.{digits}f} ({entry['ci_low']:.{digits}f} to {entry['ci_high']:.{digits}f})"


def signed(found: Mapping[str, Any] | None) -> str:
    """Print a difference with its sign and interval, a hyphen where there is none."""
    if found is None:
        return "-"
    return f"{found['difference']:+.3f} ({found['ci_low']:+.3f} to {found['ci_high']:+.3f})"


def main_table(metrics: Metrics, kind: Kind) -> Table:
    """One row a model, the main metrics with their intervals."""
    names = [name for name in MAIN[kind] if any(name in own for own in metrics.values())]
    return _by_model(metrics, names)


def further_table(metrics: Metrics, kind: Kind, subgroups: Iterable[str]) -> Table:
    """One row a model, the metrics per horizon or class but those of calibration."""
    left_out = {*MAIN[kind], "ibs_null"}
    names = [name for name in overall(metrics, subgroups) if name not in left_out and not name.startswith("oe_")]
    return _by_model(metrics, sorted(names, key=lambda name: name.partition("_")[0]))


def calibration_table(metrics: Metrics, subgroups: Iterable[str]) -> Table:
    """One row a model: are the probabilities right on average, and are they too extreme or too timid."""
    names = [name for name in overall(metrics, subgroups) if name == "calibration_slope" or name.startswith("oe_")]
    return _by_model(metrics, sorted(names))


def overall(metrics: Metrics, subgroups: Iterable[str]) -> list[str]:
    """Names of the metrics of all patients, without those of subgroups."""
    endings = tuple(f"_{subgroup}" for subgroup in subgroups)
    return [name for name in _names(metrics) if not (endings and name.endswith(endings))]


def subgroup_table(metrics: Metrics, primary: str, subgroups: Iterable[str]) -> Table:
    """One row a model, the leading metric overall and in each subgroup."""
    known = _names(metrics)
    found = [subgroup for subgroup in subgroups if f"{primary}_{subgroup}" in known]
    table = _by_model(metrics, [primary, *(f"{primary}_{subgroup}" for subgroup in found)])
    return Table(("model", "all", *(subgroup.replace("_", " ") for subgroup in found)), table.rows)


def fold_table(metrics: Metrics, metric: str) -> Table:
    """One row a model, the metric inside each fold."""
    entries = {model: own[metric] for model, own in metrics.items() if metric in own}
    folds = max((len(entry["folds"]) for entry in entries.values()), default=0)
    rows = tuple(
        (named(model), *("-" if v is None else f"{v:.3f}" for v in entry["folds"])) for model, entry in entries.items()
    )
    return Table(("model", *(f"fold {fold}" for fold in range(folds))), rows)


def comparison_table(comparisons: Mapping[str, Any]) -> Table:
    """One row a paired difference."""
    rows = [
        (named(model), named(reference), title(metric), signed(found), f"{found['p']:.3f}", f"{found['p_holm']:.3f}")
        for model, references in comparisons.items()
        for reference, differences in references.items()
        for metric, found in differences.items()
    ]
    return Table(("model", "minus", "metric", "difference (interval)", "p", "p, Holm"), tuple(rows))


def _by_model(metrics: Metrics, names: Sequence[str]) -> Table:
    rows = tuple((named(model), *(shown(own.get(name)) for name in names)) for model, own in metrics.items())
    return Table(("model", *(title(name) for name in names)), rows)


def _names(metrics: Metrics) -> list[str]:
    return list(dict.fromkeys(name for own in metrics.values() for name in own))
