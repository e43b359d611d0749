"""Renders the templates of a report: one self-contained HTML page, the model cards, and the tables in Markdown.

Sentences are in templates/sentences.jinja and items of TRIPOD+AI in templates/tripod.jinja, each after a hyphen; both
are rendered to plain text. In HTML everything is escaped.
"""

import base64
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dml.core.files import atomic
from dml.core.model_name import ModelName
from dml.core.templates import make_environment
from dml.evaluation.metric_sets import MAIN
from dml.evaluation.metrics.registry import entries, metric_form, metric_label
from dml.models.registry import description, is_baseline
from dml.models.registry import label as model_label
from dml.report import conclusions, degradation_tables, tables, teachability_tables
from dml.report.context import ReportData
from dml.report.number_format import format_difference, format_estimate, format_p, p_equals
from dml.report.tables import Table

if TYPE_CHECKING:
    from jinja2 import Template


def write_page(data: ReportData, path: Path) -> None:
    """Write report.html: works offline and prints; figures are inside."""
    figures = [
        {"section": f.section, "model": f.model, "source": f"data:image/svg+xml;base64,{_base64(f.path)}"}
        for f in data.figures
    ]
    clinical = [str(ModelName(name, clinical=True)) for name in data.pair]
    leading = [name for name in (*data.pair, *clinical) if name in data.metrics] or list(data.metrics)
    values = {
        "figures": figures,
        "headline": conclusions.headline_numbers(data),
        "pair": [model_label(name) for name in data.pair],
        "leading": [model_label(name) for name in leading],
        "ranked": {name: pairs for name, pairs in data.compared.items() if not ModelName.parse(name).recalibrated},
        "primary_metric": lambda metric: metric == data.primary,
        "other_metrics": lambda metric: metric != data.primary,
        "hazards": _hazards(data),
        "tripod": tripod_table(data),
        "teach": teachability_tables,
        "degradation": degradation_tables,
    }
    _write(path, _template("report.html").render(d=data, say=Sentences(data), t=tables, **values))


def write_cards(data: ReportData, folder: Path) -> None:
    """Write ``<folder>/<model>.md`` of teacher and student, as far as they were evaluated.

    Headings follow Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
    """
    template = _template("model_card.md")
    for model in data.pair:
        names = tables.overall({model: data.metrics[model]}, data.subgroups)
        values = data.metrics[model]
        rows = tuple((metric_label(name), format_estimate(values[name], form=metric_form(name))) for name in names)
        metrics = Table(("metric", "value (interval)"), rows)
        text = template.render(d=data, say=Sentences(data, model), model=model, metrics=metrics, t=tables)
        _write(folder / f"{model}.md", _escape_tags(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"))


def write_tables(data: ReportData, path: Path) -> None:
    """Write the result tables as Markdown."""
    folds = data.details["test_patients_per_fold"]
    head = f"# {data.task}: {sum(folds)} test patients in {len(folds)} folds, patient bootstrap intervals\n"
    main, compared = tables.main_table(data.metrics, data.kind), tables.comparison_table(data.compared)
    _write(path, _escape_tags("\n".join([head, main.markdown(), "## Paired differences\n", compared.markdown()])))


def tripod_table(data: ReportData) -> Table:
    """One row an item of TRIPOD+AI (Collins et al., BMJ 2024;385:e078378): number, topic, and the text of this run."""
    main = [metric_label(name) for name in MAIN[data.kind] if any(name in m for m in data.metrics.values())]
    lines = _items(_template("tripod.jinja").render(d=data, say=Sentences(data), main=main))
    rows = (tuple(cell.strip() for cell in line.split(" | ", 2)) for line in lines)
    return Table(("item", "topic", "this run"), tuple(rows))


class Sentences:
    """The sentences of a report by macro of sentences.jinja, on all models or on one (with its clinical fusion)."""

    def __init__(self, data: ReportData, model: str = "") -> None:
        models = [model] if model else data.pair
        comparisons = conclusions.key_comparisons(data)
        self._module: Any = _template("sentences.jinja").make_module({
            "d": data,
            "models": models,
            "comparisons": [c for c in comparisons if not model or ModelName.parse(c.model).base == model],
            "miscalibration": [m for m in conclusions.miscalibration(data) if m["model"] in models],
            "miscalibrated_numbers": [
                m for m in conclusions.number_miscalibration(data) if m["model"] in models
            ],
            "at_chance": [m for m in conclusions.subgroups_at_chance(data) if m["model"] in models],
            "hazards": _hazards(data),
            "has_baselines": any(is_baseline(name) for name in data.metrics),
            "lower_is_better": [e.label for e in _measured(data) if e.higher_is_better is False],
        })  # fmt: skip

    def __getattr__(self, name: str) -> list[str]:
        return _items(str(getattr(self._module, name)()))


def _measured(data: ReportData) -> list[Any]:
    return [entry for entry in entries(data.kind) if any(entry.name in values for values in data.metrics.values())]


def _hazards(data: ReportData) -> dict[str, Any]:
    survival = data.details.get("survival", {})
    return {name: survival[name]["hazard"] for name in data.pair if "hazard" in survival.get(name, {})}


def _items(text: str) -> list[str]:
    """Split rendered text at the hyphens that begin its items, and join the lines of each."""
    return [" ".join(item.split()) for item in re.split(r"^\s*- ", text, flags=re.MULTILINE)[1:]]


def _escape_tags(markdown: str) -> str:
    """Escape what a viewer of Markdown would take for HTML: names of patients, sites, labels and cohorts are data."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", markdown)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@cache
def _template(name: str) -> "Template":
    # a tag may end an item of plain text, and the next begins on a new line
    trim_blocks = not name.endswith(".jinja")
    filters: dict[str, Any] = {
        "model": model_label,
        "described": description,
        "metric": metric_label,
        "estimate": format_estimate,
        "difference": format_difference,
        "p": format_p,
        "p_equals": p_equals,
        "oneline": lambda text: " ".join(text.split()),
    }
    return make_environment("dml.report", filters, trim_blocks).get_template(name)
