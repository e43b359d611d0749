"""One self-contained HTML page of a task's evaluation: works offline and prints; figures are inside."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from dml.evaluation.diagrams import Diagram
from dml.evaluation.flow import Flow
from dml.evaluation.glossary import described
from dml.evaluation.panels import LOWER_IS_BETTER, PRIMARY
from dml.evaluation.tables import (
    Table,
    comparison_table,
    fold_table,
    further_table,
    main_table,
    subgroup_table,
    title,
)
from dml.files import atomic
from dml.predictions import Kind

OURS = ("teacher", "student")
STABLE = 10
"""Events per column of a Cox model under which its coefficients are taken to be unstable (Peduzzi et al. 1995)."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything a page shows."""

    cohort: str
    task: str
    kind: Kind
    metrics: Mapping[str, Any]
    compared: Mapping[str, Any]
    details: Mapping[str, Any]
    diagrams: Sequence[Diagram]
    subgroups: Sequence[str]
    limitations: Sequence[str]
    flow: Flow | None = None


def write_page(contents: Contents, path: Path) -> None:
    """Render the page to a file."""
    from jinja2 import Environment, StrictUndefined

    template = files("dml.evaluation").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    with atomic(path) as temporary:
        temporary.write_text(environment.from_string(template).render(_values(contents)), encoding="utf-8")


def _values(c: Contents) -> dict[str, Any]:
    primary = PRIMARY[c.kind]
    leading = {
        m: {r: {k: v for k, v in d.items() if k == primary} for r, d in rs.items()} for m, rs in c.compared.items()
    }
    return {
        "cohort": c.cohort,
        "task": c.task,
        "kind": c.kind,
        "primary": title(primary),
        "ours": OURS,
        "summary": _summary(c),
        "cards": _cards(c, primary),
        "verdict": _verdict(c, primary),
        "flow": c.flow,
        "fold_roles": _fold_roles(c.flow),
        "main": main_table(c.metrics, c.kind),
        "further": further_table(c.metrics, c.kind, c.subgroups),
        "by_fold": fold_table(c.metrics, primary),
        "compared": comparison_table(c.compared),
        "compared_primary": comparison_table(leading),
        "subgroups": subgroup_table(c.metrics, primary, c.subgroups) if c.subgroups else Table((), ()),
        "models": Table(("model", "what it sees"), tuple((name, described(name)) for name in c.metrics)),
        "hazards": _hazards(c.details),
        "hazard_note": _hazard_note(c.details),
        "d_calibration": _d_calibration(c.details),
        "has_decision": any(diagram.section == "decision" for diagram in c.diagrams),
        "figures": [{"section": d.section, "caption": d.caption, "source": _inlined(d.path)} for d in c.diagrams],
        "methods": _methods(c),
        "limitations": c.limitations,
    }


def _summary(c: Contents) -> str:
    folds = c.details["test_patients_per_fold"]
    text = f"{sum(folds)} test patients in {len(folds)} fold{'s' if len(folds) > 1 else ''}"
    if c.kind == "survival":
        return f"{text}, {c.details['deaths']} deaths. Intervals: {c.details['confidence']:.0%} patient bootstrap."
    labels = ", ".join(f"{name} {count}" for name, count in c.details["labels"].items())
    return f"{text} ({labels}). Intervals: {c.details['confidence']:.0%} patient bootstrap."


def _cards(c: Contents, primary: str) -> list[dict[str, str]]:
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


def _verdict(c: Contents, primary: str) -> list[str]:
    """Say of each comparison of teacher and student that matters most whether the interval leaves zero."""
    wanted = [("teacher", "baseline_both"), ("student", "student_undistilled"), ("student", "baseline_slide")]
    baselines = [name for name in c.metrics if name.startswith("baseline_") and primary in c.metrics[name]]
    strongest = max(baselines, key=lambda name: float(c.metrics[name][primary]["value"]), default=None)
    if strongest and ("student", strongest) not in wanted:
        wanted.append(("student", strongest))
    sentences = []
    for model, reference in wanted:
        entry = c.compared.get(model, {}).get(reference, {}).get(primary)
        if entry is not None:
            named = f"{reference}, the highest of the baselines" if reference == strongest else reference
            sentences.append(_said(model, named, entry, primary))
    return sentences


def _said(model: str, reference: str, entry: Mapping[str, Any], primary: str) -> str:
    sure = entry["ci_low"] > 0 or entry["ci_high"] < 0
    word = ("higher" if entry["difference"] > 0 else "lower") if sure else "not distinguishable"
    return (
        f"The {model}'s {title(primary)} is {word} {'than' if sure else 'from'} that of {reference}: difference "
        f"{entry['difference']:+.3f} ({entry['ci_low']:+.3f} to {entry['ci_high']:+.3f})."
    )


def _fold_roles(flow: Flow | None) -> Table:
    rows = () if flow is None else flow.folds
    roles = ("train", "validation", "test")
    return Table(("fold", *roles), tuple((str(k), *(str(row[role]) for role in roles)) for k, row in enumerate(rows)))


def _hazards(details: Mapping[str, Any]) -> Table:
    rows = []
    for model, own in details.get("survival", {}).items():
        if "hazard" not in own or model not in OURS:
            continue
        said = f"{own['hazard']['patients']} patients, {own['hazard']['deaths']} deaths"
        rows.append((model, "alone", *_ratio(own["hazard"]["alone"]), said))
        rows += [(model, "together", *_ratio(row), "") for row in own["hazard"]["together"]]
    return Table(("model", "fit", "column", "hazard ratio (95% interval)", "p", "fitted on"), tuple(rows))


def _hazard_note(details: Mapping[str, Any]) -> str:
    """Warn where there are fewer deaths per column than a stable Cox model needs."""
    fits = [own["hazard"] for own in details.get("survival", {}).values() if "hazard" in own]
    fewest = min((fit["deaths"] / len(fit["together"]) for fit in fits), default=float("inf"))
    if fewest >= STABLE:
        return ""
    return (
        f"With {fewest:.1f} deaths per column (ten is the usual least) the ratios of the joint model are unstable; "
        "read their intervals, not their values."
    )


def _ratio(row: Mapping[str, Any]) -> tuple[str, str, str]:
    p = "< 0.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
    return row["column"].replace("_", " "), f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})", p


def _d_calibration(details: Mapping[str, Any]) -> Table:
    found = {
        model: own["d_calibration"] for model, own in details.get("survival", {}).items() if "d_calibration" in own
    }
    rows = tuple((m, *(f"{n:.0f}" for n in own["counts"]), f"{own['p']:.3f}") for m, own in found.items())
    tenths = tuple(f"to {(k + 1) / 10:.1f}" for k in range(10))
    return Table(("model", *tenths, "p"), rows)


def _methods(c: Contents) -> list[str]:
    measured = {name for own in c.metrics.values() for name in own}
    lines = [
        "The unit is the patient. Models are fitted on a fold's training part, every choice is made on its validation "
        "part, and the test part is only predicted.",
        "Rankings (C, AUC) compare patients of the same test fold only; pairs are summed over folds. Everything else "
        "pools the patients.",
        f"Intervals: {c.details['resamples']} bootstrap resamples of patients within folds, percentile method; all "
        "models and metrics share the draws.",
        "Baselines see the same folds: principal components and a ridge-penalised Cox or logistic model; "
        "baseline_null knows nothing of the patient.",
        f"Lower is better for {', '.join(title(name) for name in LOWER_IS_BETTER if name in measured)}.",
    ]
    if c.kind == "survival" and c.details["tau_days"]:
        years = ", ".join(f"{year:g}" for year in c.details["years"])
        lines.append(
            f"Uno's C is truncated at {c.details['tau_days']:.0f} days; Brier scores are integrated by the trapezoidal "
            f"rule over {years} years; censoring weights come from each fold's training patients. Calibration is shown "
            f"at {c.details['calibration_year']:g} years; the slope is that of a Cox model stratified by fold."
        )
    return lines


def _inlined(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
