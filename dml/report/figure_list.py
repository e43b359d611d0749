"""Draws the figures of a report, each for a section of the page (captions: templates/report.html)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dml.core.model_name import ModelName
from dml.core.tasks import task_of
from dml.evaluation.horizons import Horizons
from dml.evaluation.metric_sets import PRIMARY
from dml.evaluation.results import PAIR, ModelResult, Results, reads_clinical
from dml.models.registry import is_baseline
from dml.report.context import Figure, ReportContext
from dml.report.figures.ablation import draw_ablation
from dml.report.figures.calibration import draw_confusion, draw_reliability, draw_survival_calibration
from dml.report.figures.decision import draw_class_decision, draw_survival_decision
from dml.report.figures.degradation import draw_degradation
from dml.report.figures.faithfulness import draw_faithfulness
from dml.report.figures.forest import draw_forest, draw_subgroups
from dml.report.figures.kaplan_meier import draw_kaplan_meier
from dml.report.figures.missing_modality import draw_missing_modality
from dml.report.figures.numbers import draw_measured, draw_number_calibration


def headline_models(results: Results, metrics: Mapping[str, Mapping[str, Any]]) -> list[ModelResult]:
    """Teacher, student and the strongest baseline without age and sex; without them the first three models."""
    primary = PRIMARY[results.kind]
    names = [name for name in PAIR if name in results.models]
    baselines = [n for n in metrics if is_baseline(n) and primary in metrics[n] and not reads_clinical(n)]
    if baselines:
        names.append(max(baselines, key=lambda name: float(metrics[name][primary]["value"])))
    return [results.models[name] for name in (names if len(names) > 1 else list(results.models)[:3])]


def draw_all(
    results: Results,
    metrics: Mapping[str, Mapping[str, Any]],
    horizons: Horizons | None,
    subgroups: Mapping[str, Any],
    context: ReportContext,
    out: Path,
) -> list[Figure]:
    """Draw every figure that the predictions, the subgroup table, the probes and the ablation allow into a folder."""
    primary, models, figures = PRIMARY[results.kind], headline_models(results, metrics), []
    chance = task_of({"task": results.task, "kind": results.kind, "classes": results.classes}).chance
    if draw_forest(metrics, primary, out / f"{primary}.svg", chance):
        figures.append(Figure("discrimination", out / f"{primary}.svg"))
    if horizons:
        figures += _draw_survival(models, horizons, out)
    elif results.kind == "regression":
        figures += _draw_numbers(results, models, context.unit, out)
    else:
        figures += _draw_classes(results, models, out)
    if draw_subgroups(subgroups["groups"], primary, out / "subgroups.svg", chance):
        figures.append(Figure("subgroups", out / "subgroups.svg"))
    if context.probes is not None:
        path = out / "missing_modality.svg"
        draw_missing_modality(context.probes["missing_modality"], context.probes["metric"], path)
        figures.append(Figure("probes", path))
        path = out / "faithfulness.svg"
        if draw_faithfulness(context.probes.get("faithfulness"), path):
            figures.append(Figure("faithfulness", path))
    if draw_degradation(context.degradation, out / "degradation.svg"):
        figures.append(Figure("degradation", out / "degradation.svg"))
    if context.ablation is not None and draw_ablation(context.ablation["rows"], out / "ablation.svg"):
        figures.append(Figure("ablation", out / "ablation.svg"))
    return figures


def _draw_survival(models: list[ModelResult], horizons: Horizons, out: Path) -> list[Figure]:
    ranked = [model for model in models if not ModelName.parse(model.name).recalibrated]
    figures = [Figure("groups", out / f"kaplan_meier_{model.name}.svg", model.name) for model in ranked]
    figures = [figure for figure, model in zip(figures, ranked, strict=True) if draw_kaplan_meier(model, figure.path)]
    if horizons.primary is None:
        return figures
    draw_survival_calibration(models, horizons.primary, out / "calibration.svg")
    draw_survival_decision(models, horizons.primary, out / "decision.svg")
    return [*figures, Figure("calibration", out / "calibration.svg"), Figure("decision", out / "decision.svg")]


def _draw_classes(results: Results, models: list[ModelResult], out: Path) -> list[Figure]:
    draw_confusion(models, results.classes, out / "confusion.svg")
    draw_reliability(models, results.classes, out / "calibration.svg")
    positives = results.classes[-1:] if len(results.classes) == 2 else results.classes
    draw_class_decision(models, positives, out / "decision.svg")
    files = {"groups": "confusion.svg", "calibration": "calibration.svg", "decision": "decision.svg"}
    return [Figure(section, out / name) for section, name in files.items()]


def _draw_numbers(results: Results, models: list[ModelResult], unit: str, out: Path) -> list[Figure]:
    name = results.task.replace("_", " ") + (f" [{unit}]" if unit else "")
    draw_measured(models, name, out / "measured.svg")
    draw_number_calibration(models, name, out / "calibration.svg")
    return [Figure("groups", out / "measured.svg"), Figure("calibration", out / "calibration.svg")]
