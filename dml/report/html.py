"""One self-contained HTML page of a task's evaluation: works offline and prints; figures are inside."""

import base64
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from dml.core.files import atomic
from dml.core.model_name import ModelName
from dml.evaluation.metric_sets import PRIMARY
from dml.evaluation.metrics.registry import entries
from dml.models.registry import is_baseline
from dml.report import ablation_tables, clinical_tables, probe_tables
from dml.report import conclusions as verdicts
from dml.report.contents import OURS, Contents
from dml.report.findings import findings
from dml.report.names import described, named
from dml.report.tables import (
    Table,
    calibration_table,
    comparison_table,
    fold_table,
    further_table,
    main_table,
    subgroup_table,
    title,
)
from dml.report.tripod import tripod_table


def write_page(contents: Contents, path: Path) -> None:
    """Render the page to a file."""
    from jinja2 import Environment, StrictUndefined

    template = files("dml.report").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    values = {
        **_head(contents),
        **_numbers(contents),
        **_clinical(contents),
        **_probes(contents),
        **_ablation(contents),
    }
    with atomic(path) as temporary:
        temporary.write_text(environment.from_string(template).render(values), encoding="utf-8")


def _head(c: Contents) -> dict[str, Any]:
    primary = PRIMARY[c.kind]
    return {
        "cohort": c.about.cohort,
        "description": " ".join(c.about.description.split()),
        "task": c.task,
        "kind": c.kind,
        "primary": title(primary),
        "ours": OURS,
        "leading": _leading(c),
        "summary": verdicts.summary(c),
        "cards": verdicts.cards(c, primary),
        "verdict": [*verdicts.verdict(c, primary), *findings(c)],
        "figures": [{"section": d.section, "caption": d.caption, "source": _inlined(d.path)} for d in c.diagrams],
        "sections_drawn": {d.section for d in c.diagrams},
        "methods": _methods(c),
        "limitations": c.limitations,
        "tripod": tripod_table(c),
    }


def _numbers(c: Contents) -> dict[str, Any]:
    primary = PRIMARY[c.kind]
    ranked = {name: references for name, references in c.compared.items() if not ModelName.parse(name).recalibrated}
    return {
        "main": main_table(c.metrics, c.kind),
        "further": further_table(c.metrics, c.kind, c.subgroups),
        "by_fold": fold_table(c.metrics, primary),
        "calibration": calibration_table(c.metrics, c.subgroups),
        "compared": comparison_table(_restricted(c.compared, lambda metric: metric != primary)),
        "compared_primary": comparison_table(_restricted(ranked, lambda metric: metric == primary)),
        "named_groups": subgroup_table(c.metrics, primary, c.subgroups) if c.subgroups else Table((), ()),
        "models": Table(("model", "what it sees", "in files"), tuple((named(n), described(n), n) for n in c.metrics)),
    }


def _restricted(compared: Mapping[str, Any], wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Keep the differences of some metrics."""
    return {
        model: {reference: {m: d for m, d in found.items() if wanted(m)} for reference, found in references.items()}
        for model, references in compared.items()
    }


def _clinical(c: Contents) -> dict[str, Any]:
    return {
        "flow": c.about.flow,
        "fold_roles": clinical_tables.roles_table(c.about.flow),
        "patients": clinical_tables.patients_table(c.details),
        "coverage": clinical_tables.coverage_rows(c.about.coverage),
        "external": c.about.external,
        "external_model": (c.about.coverage or {}).get("model", "a model of another cohort"),
        "checks": clinical_tables.check_rows(c.about.checks),
        "hazards": clinical_tables.hazard_table(c.details),
        "hazard_notes": clinical_tables.hazard_notes(c.details),
        "horizons": clinical_tables.horizon_table(c.details),
        "d_calibration": clinical_tables.d_calibration_table(c.details),
        "groups": clinical_tables.group_table(c.details),
        "small_groups": clinical_tables.small_groups(c.details),
    }


def _probes(c: Contents) -> dict[str, Any]:
    probes = c.about.probes
    if probes is None:
        return {"probed": False}
    return {
        "probed": True,
        "probe_sentences": probe_tables.probe_sentences(probes),
        "exchange": probe_tables.exchange_table(probes),
        "sites": probe_tables.site_table(probes),
        "subspaces": probe_tables.subspace_table(probes),
    }


def _ablation(c: Contents) -> dict[str, Any]:
    content = c.about.ablation
    if content is None:
        return {"ablated": False}
    names = ablation_tables.subgroups_of(content)
    return {
        "ablated": True,
        "ablation_sentences": ablation_tables.ablation_sentences(content),
        "ablation": ablation_tables.ablation_table(content),
        "ablation_inside": {n.replace("_", " "): ablation_tables.ablation_table(content, n) for n in names},
    }


def _methods(c: Contents) -> list[str]:
    measured = {name for own in c.metrics.values() for name in own}
    fitted = (
        "The models were trained on another cohort; the patients here are only predicted."
        if c.about.external
        else "Models are fitted on a fold's training part, every choice is made on its validation part, and the test "
        "part is only predicted."
    )
    lines = [
        f"The unit is the patient. {fitted}",
        "Rankings (C, AUC) compare patients of the same test fold only; pairs are summed over folds. Everything else "
        "pools the patients.",
        f"Intervals: {c.details['resamples']} bootstrap resamples of patients within folds, percentile method; all "
        f"models and metrics share the draws, and no p can be below {2 / (c.details['resamples'] + 1):.2g}.",
        f"Lower is better for: {'; '.join(entry.label for entry in entries(c.kind) if entry.higher_is_better is False and entry.name in measured)}.",
    ]
    if c.kind == "classification" and len(c.details["classes"]) > 2:
        lines.append("AUC is the mean over the classes of each against the others (macro); so is F1.")
    if any(is_baseline(name) for name in c.metrics):
        lines.append(
            "Baselines see the same folds. Linear: principal components of each source (age and sex as they are) and a "
            "ridge-penalised Cox or logistic model; the others are networks trained like ours. A network + age + sex: "
            "a small Cox or logistic model of what it said and of age and sex, fitted on patients it had not seen."
        )
    if c.kind == "survival" and c.details["tau_days"]:
        years = ", ".join(f"{year:g}" for year in c.details["years"])
        lines.append(
            f"Uno's C is truncated at {c.details['tau_days']:.0f} days; Brier scores are integrated by the trapezoidal "
            f"rule over {years} years; censoring weights come from each fold's training patients. Calibration is shown "
            f"at {c.details['calibration_year']:g} years; the slope is that of a Cox model stratified by fold."
        )
    return lines


def _leading(c: Contents) -> list[str]:
    """Names of the models whose calibration is not folded away: ours, without and with age and sex."""
    ours = [name + ending for ending in ("", "-clinical") for name in OURS if name + ending in c.metrics]
    return [named(name) for name in ours or list(c.metrics)]


def _inlined(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
