"""Files of a spatial validation: spatial.json, spots.parquet, figures, and spatial.html, a page that works offline."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from dml.core.files import atomic, write_json, write_parquet
from dml.core.templates import make_environment
from dml.models.registry import label as model_label
from dml.report.number_format import format_p
from dml.spatial.comparison import CHANCE, ComparisonResult, Settings
from dml.spatial.map_labels import STATISTICS, compared, label
from dml.spatial.measurements import Terms
from dml.spatial.section_figure import attended, draw_section, measured_and_predicted
from dml.spatial.validation import NOT_SPATIAL, SpatialValidation, describe_null, token_summary

if TYPE_CHECKING:
    from jinja2 import Template

TITLES = {
    "subspaces": "Maps of both subspaces",
    "genes": "Single genes",
    "magnifications": "Agreement of the magnifications",
    "predictions": "Predictions of single spots",
    "tokens": "Origin of the aggregated tokens",
}


@dataclass(frozen=True, slots=True)
class SpatialReport:
    """What a page is of: a cohort with its description, and the validations of one or several models.

    `source` says what the models are (a registered version, a folder), `spacing_um` and `diameter_um` are of the spots.
    """

    cohort: str
    task: str
    description: str
    licence: str
    source: str
    spacing_um: float
    diameter_um: float
    settings: Settings
    validations: Sequence[SpatialValidation]
    patients: int


def write_report(report: SpatialReport, out: Path) -> None:
    """Write all files of a validation into a folder."""
    null = describe_null(report.settings, report.spacing_um)
    models = {validation.model: validation.to_json() for validation in report.validations}
    head = {"cohort": report.cohort, "task": report.task, "spatial": True, "source": report.source}
    write_json(out / "spatial.json", {**head, "patients": report.patients, "null": null, "models": models})
    _write_spots(out / "spots.parquet", report.validations)
    figures = {v.model: _draw(v, out / "figures", report.diameter_um) for v in report.validations}
    values = {"r": report, "figures": figures, "null": null, "titles": TITLES, "terms": Terms.read()}
    _write(out / "spatial.html", _template().render(**values, token_rows=token_rows))


def write_not_spatial(cohort: str, task: str, out: Path) -> None:
    """Write the result of a cohort without spots: a page and a JSON that say so, and an empty table."""
    write_json(out / "spatial.json", {"cohort": cohort, "task": task, "spatial": False, "reason": NOT_SPATIAL})
    write_parquet(out / "spots.parquet", pa.table({"model": pa.array([], pa.string())}))
    _write(out / "spatial.html", _template().render(r=None, cohort=cohort, task=task, reason=NOT_SPATIAL))


def _write_spots(path: Path, validations: Sequence[SpatialValidation]) -> None:
    parts = [validation.spot_table().assign(model=validation.model) for validation in validations]
    rows = pd.concat(parts, ignore_index=True)
    rows.insert(0, "model", rows.pop("model"))
    write_parquet(path, pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None))


def _draw(validation: SpatialValidation, folder: Path, diameter_um: float) -> list[dict[str, str]]:
    drawn = []
    for section in validation.sections:
        paths = [folder / f"{validation.model}-{section.section_id}{suffix}.png" for suffix in ("", "-attention")]
        draw_section(section, measured_and_predicted(section, validation.mpps), paths[0], diameter_um, tissue=True)
        names = {"section": section.section_id, "maps": _embed(paths[0])}
        if panels := attended(section, validation.mpps):
            draw_section(section, panels, paths[1], diameter_um, tissue=False)
            names["attention"] = _embed(paths[1])
        drawn.append(names)
    return drawn


def not_shown(validation: SpatialValidation) -> list[str]:
    """Return a sentence per claim that is not shown: p of the table from 0.05, or an interval that covers chance."""
    return [f"{_capitalise(compared(row.comparison))}: {number(row)}." for row in validation.claims if not row.shown]


def shown(validation: SpatialValidation) -> list[str]:
    """Return a sentence per claim that is shown, with its direction."""
    return [
        f"{_capitalise(compared(row.comparison))}: {number(row)}; {_direction(row)}."
        for row in validation.claims
        if row.shown
    ]


def number(row: ComparisonResult) -> str:
    """Return statistic, interval and corrected p-value of a row."""
    name = STATISTICS[row.comparison.statistic]
    if row.comparison.less is not None:
        name = f"difference of {name if name == 'AUC' else name.lower()}s".replace("spearman", "Spearman")
    return f"{name} {estimate(row)}, corrected p {_equals(row.p_table)}"


def estimate(row: ComparisonResult) -> str:
    """Return the value and its interval."""
    if not row.sections:
        return "not computed: too few spots with both"
    sign = "" if row.comparison.statistic == "auc" and row.comparison.less is None else "+"
    if not math.isfinite(row.low):
        return f"{row.value:{sign}.2f} (no interval: too few blocks with both)"
    return f"{row.value:{sign}.2f} ({row.low:{sign}.2f} to {row.high:{sign}.2f})"


def table_rows(rows: Sequence[ComparisonResult]) -> list[list[str]]:
    """Return the cells of a table: compared, statistic, estimate, p, corrected p, each section."""
    return [
        [
            label(row.comparison.map) + ("" if row.comparison.less is None else f" less {label(row.comparison.less)}"),
            label(row.comparison.measurement),
            STATISTICS[row.comparison.statistic],
            estimate(row),
            format_p(row.p),
            format_p(row.p_table),
            ", ".join(f"{section} {value:.2f}" for section, value in row.sections.items()),
        ]
        for row in rows
    ]


def section_rows(validation: SpatialValidation) -> list[list[object]]:
    """Return the cells of the table of sections."""
    return [[section.section_id, len(section.spots), section.units, section.folds] for section in validation.sections]


def token_rows(validation: SpatialValidation) -> list[list[str]]:
    """Return the cells of the table of tokens: subspace, magnification, how many count, enrichment by region."""
    return [
        [
            label(f"{row['subspace']}.tokens.{row['mpp']:g}").split(",")[0],
            f"{row['mpp']:g}",
            f"{row['effective_tokens']:.1f} of {row['tokens']:.0f}",
            f"{row['effective_tiles']:.0f}",
            ", ".join(f"{name} {value:.2f}" for name, value in row["enrichment"].items() if value is not None),
        ]
        for row in token_summary(validation.sections)
    ]


def _direction(row: ComparisonResult) -> str:
    higher = row.value > (0.0 if row.comparison.less else CHANCE[row.comparison.statistic])
    if row.comparison.less is not None:
        return "the first map agrees more" if higher else "the first map agrees less"
    return "high where it is high" if higher else "low where it is high"


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def _equals(p: float) -> str:
    return format_p(p) if p < 0.001 else f"= {format_p(p)}"


def _embed(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@cache
def _template() -> "Template":
    filters: dict[str, Any] = {
        "model": model_label,
        "not_shown": not_shown,
        "shown": shown,
        "table_rows": table_rows,
        "section_rows": section_rows,
        "oneline": lambda text: " ".join(text.split()),
    }
    return make_environment("dml.spatial", filters).get_template("spatial.html")
