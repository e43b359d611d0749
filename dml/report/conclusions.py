"""Conclusions of a report as data: comparisons that matter, miscalibration, subgroups at chance (texts: templates)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dml.core.model_name import ModelName
from dml.core.tasks import COVERAGE
from dml.evaluation.metrics.registry import entries, find, metric_form
from dml.models.registry import entry as model_entry
from dml.models.registry import is_baseline
from dml.report.context import ReportData
from dml.report.tables import overall

ALPHA = 0.05
"""A corrected p below it is called a difference."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model and a reference that it is compared with; `role` says which of the references this is."""

    model: str
    reference: str
    role: str
    result: Mapping[str, Any]

    @property
    def leaves_zero(self) -> bool:
        """Whether the interval of the difference, before any correction, leaves zero."""
        return bool(self.result["ci_low"] > 0 or self.result["ci_high"] < 0)

    @property
    def is_evidence(self) -> bool:
        """Whether it also survives the correction for all comparisons of the model."""
        return self.leaves_zero and bool(self.result["p_holm"] < ALPHA)


def key_comparisons(data: ReportData) -> list[Comparison]:
    """Compare teacher and student, with and without age and sex, with the references that matter most."""
    chosen: dict[tuple[str, str], Comparison] = {}
    for model, reference, role in _key_pairs(data):
        result = data.compared.get(model, {}).get(reference or "", {}).get(data.primary)
        if reference is not None and result is not None:
            chosen.setdefault((model, reference), Comparison(model, reference, role, result))
    return list(chosen.values())


def _key_pairs(data: ReportData) -> Iterator[tuple[str, str | None, str]]:
    highest = ", the highest of the baselines"
    yield "teacher", _highest_baseline(data, "teacher"), highest
    yield "teacher", _highest_baseline(data, "teacher", family="linear", same_inputs=True), ", which reads the same"
    yield "student", "student_undistilled", ""
    best = _highest_baseline(data, "student", same_inputs=True)
    yield "student", best, ", the highest of those that read the slide only"
    yield "teacher-clinical", _highest_baseline(data, "teacher-clinical"), f"{highest} with age and sex"


def _highest_baseline(data: ReportData, model: str, family: str = "", same_inputs: bool = False) -> str | None:
    """Return the baseline with the highest leading metric among the references of a model."""
    inputs = model_entry(ModelName.parse(model).base).inputs

    def is_candidate(name: str) -> bool:
        if not is_baseline(name) or data.primary not in data.metrics[name]:
            return False
        entry = model_entry(ModelName.parse(name).base)
        return family in ("", entry.family) and (not same_inputs or entry.inputs == inputs)

    names = [name for name in data.compared.get(model, {}) if is_candidate(name)]
    return max(names, key=lambda name: float(data.metrics[name][data.primary]["value"]), default=None)


def headline_numbers(data: ReportData) -> list[dict[str, Any]]:
    """Return the main numbers of teacher and student, each with the value of a model that knows nothing."""
    classes, models = len(data.details.get("classes", ())), data.pair or list(data.metrics)[:1]
    return [
        {
            "model": model,
            "metric": entry,
            "result": data.metrics[model][entry.name],
            "chance": entry.chance_level(classes),
            "null": data.metrics[model].get(entry.null),
        }
        for model in models
        for entry in entries(data.kind)
        if entry.headline and entry.name in data.metrics[model]
    ]


def miscalibration(data: ReportData) -> list[dict[str, Any]]:
    """List the models whose observed-to-expected ratio is off: model, what it predicts too often, and too rarely.

    Both are lists of (horizon in years or class, ratio).
    """
    rows, names = [], overall(data.metrics, data.subgroups)
    for model in data.pair:
        values = data.metrics[model]
        ratios = [(key, values[n]) for n in names if n in values and (key := _horizon_or_class(n, data)) is not None]
        ratios.sort(key=lambda item: item[0] if isinstance(item[0], float) else 0)
        too_many = [(key, ratio["value"]) for key, ratio in ratios if ratio["ci_high"] < 1]
        too_few = [(key, ratio["value"]) for key, ratio in ratios if ratio["ci_low"] > 1]
        if too_many or too_few:
            rows.append({"model": model, "many": too_many, "few": too_few})
    return rows


NUMBER_TARGETS: Mapping[str, float] = {"coverage": COVERAGE, "calibration_slope": 1.0, "bias": 0.0}
"""Metrics of predicted numbers with the value that they should have."""


def number_miscalibration(data: ReportData) -> list[dict[str, Any]]:
    """List the models and metrics of predicted numbers whose interval excludes the value that they should have."""
    if data.kind != "regression":
        return []
    return [
        {"model": model, "metric": name, "result": result, "wanted": wanted, "form": metric_form(name)}
        for model in data.pair
        for name, wanted in NUMBER_TARGETS.items()
        if (result := data.metrics[model].get(name)) is not None and not result["ci_low"] <= wanted <= result["ci_high"]
    ]


def _horizon_or_class(name: str, data: ReportData) -> float | str | None:
    """Return what an observed-to-expected ratio is of; None for other metrics."""
    entry = find(name, data.kind)
    if entry is None or not (entry.calibration and entry.repeated):
        return None
    groups = entry.match(name) or {}
    return float(groups["year"]) if "year" in groups else groups["class"]


def subgroups_at_chance(data: ReportData) -> list[dict[str, Any]]:
    """List the models with groups in which the interval of the leading metric contains chance: column to values."""
    classes = len(data.details.get("classes", ()))
    chance = next(entry for entry in entries(data.kind) if entry.leading).chance_level(classes)
    rows = []
    for model in data.pair:
        weak: dict[str, list[str]] = {}
        for group in data.details["subgroups"]["groups"]:
            if chance is not None and model in group["models"] and group["models"][model]["ci_low"] <= chance:
                weak.setdefault(group["column"], []).append(group["value"])
        if weak:
            rows.append({"model": model, "groups": weak})
    return rows
