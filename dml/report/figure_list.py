"""Which figures a report has, what each is called, and how to read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dml.core.model_name import ModelName
from dml.evaluation.horizons import Horizons
from dml.evaluation.metric_sets import PRIMARY
from dml.evaluation.results import ModelResult, Results, reads_clinical
from dml.models.registry import is_baseline
from dml.report.context import About
from dml.report.figures.ablation import draw_ablation
from dml.report.figures.calibration import draw_confusion, draw_reliability, draw_survival_calibration
from dml.report.figures.decision import draw_class_decision, draw_survival_decision
from dml.report.figures.forest import draw_forest, draw_subgroups
from dml.report.figures.kaplan_meier import draw_kaplan_meier
from dml.report.figures.missing_modality import draw_missing_modality
from dml.report.names import named


@dataclass(frozen=True, slots=True)
class Diagram:
    """A drawn figure: the section of the page it belongs to, its file and its caption."""

    section: str
    path: Path
    caption: str


def headline(results: Results, metrics: Mapping[str, Mapping[str, Any]]) -> list[ModelResult]:
    """Teacher, student and the strongest baseline that knows as little; without them the first three models."""
    primary = PRIMARY[results.kind]
    named = [name for name in ("teacher", "student") if name in results.models]
    baselines = [n for n in metrics if is_baseline(n) and primary in metrics[n] and not reads_clinical(n)]
    if baselines:
        named.append(max(baselines, key=lambda name: float(metrics[name][primary]["value"])))
    return [results.models[name] for name in (named if len(named) > 1 else list(results.models)[:3])]


def draw_all(
    results: Results,
    metrics: Mapping[str, Mapping[str, Any]],
    horizons: Horizons | None,
    out: Path,
    subgroups: Mapping[str, Any] | None = None,
    about: About | None = None,
) -> list[Diagram]:
    """Draw every figure the predictions, the subgroup table, the probes and the ablation allow into a folder."""
    primary = PRIMARY[results.kind]
    diagrams = []
    if draw_forest(metrics, primary, out / f"{primary}.svg"):
        dots = " pale dots: single folds;" if len(results.folds) > 1 else ""
        caption = f"All models on the same test patients. Bar: bootstrap interval;{dots} dotted: chance."
        diagrams.append(Diagram("discrimination", out / f"{primary}.svg", caption))
    models = headline(results, metrics)
    diagrams += _of_survival(models, horizons, out) if horizons else _of_classes(results, models, out)
    diagrams += _of_groups(subgroups, primary, out)
    if about is not None:
        diagrams += [*_of_probes(about.probes, out), *_of_ablation(about.ablation, out)]
    return diagrams


def _of_groups(subgroups: Mapping[str, Any] | None, primary: str, out: Path) -> list[Diagram]:
    if subgroups is None or not draw_subgroups(subgroups["groups"], primary, out / "subgroups.svg"):
        return []
    caption = (
        "Groups of test patients with enough patients and events; bars: bootstrap intervals; dotted: chance. An "
        "interval without width says that the sample is ordered without a fault, not that the next one will be."
    )
    return [Diagram("subgroups", out / "subgroups.svg", caption)]


def _of_probes(probes: Mapping[str, Any] | None, out: Path) -> list[Diagram]:
    if probes is None:
        return []
    draw_missing_modality(probes["missing_modality"], probes["metric"], out / "missing_modality.svg")
    caption = (
        "One teacher throughout; the transcriptomes of a growing share of the test patients are hidden, in random "
        "orders. Band: bootstrap interval. The student never has a transcriptome."
    )
    return [Diagram("probes", out / "missing_modality.svg", caption)]


def _of_ablation(ablation: Mapping[str, Any] | None, out: Path) -> list[Diagram]:
    if ablation is None or not draw_ablation(ablation["rows"], out / "ablation.svg"):
        return []
    caption = (
        "One thing switched off or exchanged at a time. Bars: paired bootstrap intervals of the difference, not "
        "corrected for the number of rows; they do not contain the spread between trainings."
    )
    return [Diagram("ablation", out / "ablation.svg", caption)]


def _of_survival(models: list[ModelResult], horizons: Horizons, out: Path) -> list[Diagram]:
    diagrams = []
    for model in (model for model in models if not ModelName.parse(model.name).recalibrated):
        path = out / f"kaplan_meier_{model.name}.svg"
        if draw_kaplan_meier(model, path):
            caption = (
                f"{named(model.name)}: test patients above and below the median risk of the patients that their model "
                "learnt from. Bands: pointwise 95 % intervals; ticks: censored patients."
            )
            diagrams.append(Diagram("groups", path, caption))
    if horizons.primary is None:
        return diagrams
    draw_survival_calibration(models, horizons.primary, out / "calibration.svg")
    caption = (
        "Fifths of the test patients by predicted survival; on the line, as many survive as predicted. Bars: 95 % "
        "intervals of Kaplan-Meier."
    )
    diagrams.append(Diagram("calibration", out / "calibration.svg", caption))
    draw_survival_decision(models, horizons.primary, out / "decision.svg")
    caption = (
        "Net benefit of acting on the model, in true positives per patient; useful where it is above both references."
    )
    return [*diagrams, Diagram("decision", out / "decision.svg", caption)]


def _of_classes(results: Results, models: list[ModelResult], out: Path) -> list[Diagram]:
    draw_confusion(models, results.classes, out / "confusion.svg")
    draw_reliability(models, results.classes, out / "calibration.svg")
    diagrams = [
        Diagram(
            "groups", out / "confusion.svg", "Test patients by true and most probable class; shade: share of the row."
        ),
        Diagram(
            "calibration",
            out / "calibration.svg",
            "Fifths of the test patients by predicted probability; on the line, the share is as predicted. Bars: "
            "Wilson's 95 % intervals.",
        ),
    ]
    positives = results.classes[-1:] if len(results.classes) == 2 else results.classes
    draw_class_decision(models, positives, out / "decision.svg")
    caption = (
        "Net benefit of acting on the model, in true positives per patient, each class against the others; useful "
        "where it is above treating everyone and no one."
    )
    return [*diagrams, Diagram("decision", out / "decision.svg", caption)]
