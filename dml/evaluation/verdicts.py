"""The head of a report: how many patients, the main numbers, and what the comparisons come to, in sentences."""

from collections.abc import Mapping
from typing import Any

from dml.evaluation.contents import OURS, Contents
from dml.evaluation.tables import title


def summary(c: Contents) -> str:
    """Count the test patients and say what the intervals are."""
    folds = c.details["test_patients_per_fold"]
    text = f"{sum(folds)} test patients in {len(folds)} fold{'s' if len(folds) > 1 else ''}"
    if c.kind == "survival":
        return f"{text}, {c.details['deaths']} deaths. Intervals: {c.details['confidence']:.0%} patient bootstrap."
    labels = ", ".join(f"{name} {count}" for name, count in c.details["labels"].items())
    return f"{text} ({labels}). Intervals: {c.details['confidence']:.0%} patient bootstrap."


def cards(c: Contents, primary: str) -> list[dict[str, str]]:
    """Two main metrics of teacher and student, each as model, metric, value and interval."""
    second = "ibs" if c.kind == "survival" else "balanced_accuracy"
    shown = [m for m in OURS if m in c.metrics] or list(c.metrics)[:1]
    return [
        {
            "model": model,
            "metric": title(name),
            "value": f"{entry['value']:.3f}",
            "interval": f"{entry['ci_low']:.3f} to {entry['ci_high']:.3f} ({c.details['confidence']:.0%} interval)",
        }
        for model in shown
        for name in (primary, second)
        if (entry := c.metrics[model].get(name)) is not None
    ]


def verdict(c: Contents, primary: str) -> list[str]:
    """Say of each comparison of teacher and student that matters most whether the interval leaves zero."""
    wanted = [("teacher", "baseline_both"), ("student", "student_undistilled"), ("student", "baseline_slide")]
    baselines = [name for name in c.metrics if name.startswith("baseline_") and primary in c.metrics[name]]
    strongest = max(baselines, key=lambda name: float(c.metrics[name][primary]["value"]), default=None)
    wanted += [(m, strongest) for m in OURS if strongest and (m, strongest) not in wanted]
    sentences = []
    for model, reference in wanted:
        entry = c.compared.get(model, {}).get(reference, {}).get(primary)
        if entry is not None:
            named = f"{reference}, the highest of the baselines" if reference == strongest else str(reference)
            sentences.append(_said(model, named, entry, primary))
    return sentences


def _said(model: str, reference: str, entry: Mapping[str, Any], primary: str) -> str:
    sure = entry["ci_low"] > 0 or entry["ci_high"] < 0
    word = ("higher" if entry["difference"] > 0 else "lower") if sure else "not distinguishable"
    return (
        f"The {model}'s {title(primary)} is {word} {'than' if sure else 'from'} that of {reference}: difference "
        f"{entry['difference']:+.3f} ({entry['ci_low']:+.3f} to {entry['ci_high']:+.3f})."
    )
