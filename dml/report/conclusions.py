"""The head of a report: how many patients, the main numbers, and what the comparisons come to, in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dml.models.registry import is_baseline
from dml.report.contents import OURS, Contents
from dml.report.names import SLIDE_ONLY, named
from dml.report.tables import signed, title

UNLIKELY = 0.05
"""A corrected p below it is called a difference."""


def summary(c: Contents) -> str:
    """Count the test patients and say what the intervals are."""
    folds = c.details["test_patients_per_fold"]
    text = f"{sum(folds)} test patients" + (f" in {len(folds)} folds" if len(folds) > 1 else "")
    if c.kind == "survival":
        return f"{text}, {c.details['deaths']} deaths. Intervals: {c.details['confidence']:.0%} patient bootstrap."
    labels = ", ".join(f"{name} {count}" for name, count in c.details["labels"].items())
    return f"{text} ({labels}). Intervals: {c.details['confidence']:.0%} patient bootstrap."


def cards(c: Contents, primary: str) -> list[dict[str, str]]:
    """Two main metrics of teacher and student, each as model, metric, value, interval, and the value of no model."""
    second = "ibs" if c.kind == "survival" else "balanced_accuracy"
    shown = [m for m in OURS if m in c.metrics] or list(c.metrics)[:1]
    return [
        {
            "model": named(model),
            "metric": title(name),
            "value": f"{entry['value']:.3f}",
            "interval": f"{entry['ci_low']:.3f} to {entry['ci_high']:.3f}",
            "without": _without(c, model, name),
        }
        for model in shown
        for name in (primary, second)
        if (entry := c.metrics[model].get(name)) is not None
    ]


def verdict(c: Contents, primary: str) -> list[str]:
    """Say of each comparison that matters most whether there is a difference, chance and many looks considered."""
    sentences = []
    for model, reference, role in _looked_at(c, primary):
        entry = c.compared.get(model, {}).get(reference, {}).get(primary)
        if entry is not None:
            sentences.append(_said(model, reference, role, entry, primary))
    return sentences


def _looked_at(c: Contents, primary: str) -> Iterator[tuple[str, str, str]]:
    """Model, reference and what is special about the reference."""
    highest = ", the highest of the baselines"
    of_slides = [name for name in SLIDE_ONLY if name in c.compared.get("student", {})]
    pairs = [
        ("teacher", _highest(c, "teacher", primary), highest),
        ("teacher", "linear_slide_genes", ", which sees the same"),
        ("student", "student_undistilled", ""),
        ("student", _highest(c, "student", primary, of_slides), ", the highest of those that see the slide only"),
        ("teacher-clinical", _highest(c, "teacher-clinical", primary), highest + " with age and sex"),
    ]
    seen = set()
    for model, reference, role in pairs:
        if reference is not None and (model, reference) not in seen:
            seen.add((model, reference))
            yield model, reference, role


def _highest(c: Contents, model: str, primary: str, among: Sequence[str] | None = None) -> str | None:
    """Find the baseline with the highest value among those that a model is compared with."""
    names = [name for name in c.compared.get(model, {}) if is_baseline(name)] if among is None else among
    known = [name for name in names if primary in c.metrics[name]]
    return max(known, key=lambda name: float(c.metrics[name][primary]["value"]), default=None)


def _without(c: Contents, model: str, metric: str) -> str:
    """Say what the metric is without any knowledge of the patient."""
    if metric == "ibs":
        null = c.metrics[model].get("ibs_null")
        return "" if null is None else f"Kaplan-Meier: {null['value']:.3f}; lower is better"
    return f"chance: {1 / len(c.details['classes']):.2g}" if metric == "balanced_accuracy" else "chance: 0.5"


def _said(model: str, reference: str, role: str, entry: Mapping[str, Any], primary: str) -> str:
    sure = entry["ci_low"] > 0 or entry["ci_high"] < 0
    word = ("higher" if entry["difference"] > 0 else "lower") if sure else "not distinguishable"
    kept = sure and entry["p_holm"] >= UNLIKELY
    after = "; with the correction for all its comparisons that is no evidence of a difference" if kept else ""
    return (
        f"The {named(model)}: {title(primary)} {word} {'than' if sure else 'from'} that of {named(reference)}{role}, "
        f"{signed(entry)}, p = {entry['p']:.3f}, {entry['p_holm']:.3f} corrected{after}."
    )
