"""Files of a benchmark: benchmark.html, which works offline, and the same numbers as JSON, Parquet and Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from markupsafe import Markup

from dml.core.files import atomic, write_json, write_parquet
from dml.core.templates import make_environment
from dml.evaluation.metric_sets import MAIN
from dml.evaluation.metrics.registry import metric_label
from dml.evaluation.rank_tests import SIGNIFICANT, RankComparison
from dml.experiments.benchmark_scores import GROUPS, BenchmarkResult, Row
from dml.models import registry
from dml.report.figures import FAINT, INK, LOW, drawing

DIFFERENCE_COLUMNS = ("cohort", "model", "compared with", "difference (interval)", "p", "p (Holm)", "patients")


def write_benchmark(result: BenchmarkResult, out: Path) -> None:
    """Write benchmark.json, benchmark.parquet, table.md, critical-difference diagrams and benchmark.html."""
    content = {**asdict(result), "ranks": {group: asdict(ranks) for group, ranks in result.ranks.items()}}
    write_json(out / "benchmark.json", content)
    table = pa.Table.from_pandas(pd.DataFrame(result.rows), preserve_index=False).replace_schema_metadata(None)
    write_parquet(out / "benchmark.parquet", table)
    figures = {}
    for group, ranks in result.ranks.items():
        path = out / f"ranks-{group}.svg"
        draw_ranks(ranks, path)
        figures[group] = Markup(_inline(path))
    _write_text(out / "table.md", markdown(result))
    environment = make_environment("dml.experiments", {})
    page = environment.get_template("benchmark.html").render(
        r=result,
        figures=figures,
        groups=GROUPS,
        columns=table_columns(result),
        rows=table_rows(result),
        difference_columns=DIFFERENCE_COLUMNS,
        differences=difference_rows(result.differences),
        ideas=difference_rows(result.ideas),
        lost=lost(result.differences),
        won=won(result.differences),
        label=metric_label(result.metric),
    )
    _write_text(out / "benchmark.html", page)


def table_columns(result: BenchmarkResult) -> list[str]:
    """Return the header of the main table."""
    names = [metric_label(name) for name in main_metrics_of(result)]
    return ["cohort", "model", "reads", "patients", *names, "rank", "seconds", "peak GB"]


def table_rows(result: BenchmarkResult) -> list[list[str]]:
    """Return the main table as text, cohort by cohort, best rank first within the inputs."""
    order = {cohort: i for i, cohort in enumerate(dict.fromkeys(row["cohort"] for row in result.rows))}

    def position(row: Row) -> tuple[int, str, float]:
        return order[row["cohort"]], row["inputs"], row["rank"] or 0.0

    return [
        [
            row["cohort"],
            registry.label(row["model"]),
            row["inputs"].replace("+", " + ") or "nothing",
            str(row["patients"]),
            *(_interval(row, name) for name in main_metrics_of(result)),
            "" if row["rank"] is None else f"{row['rank']:g}",
            "" if row["seconds"] is None else f"{row['seconds']:.1f}",
            "" if row["peak_gb"] is None else f"{row['peak_gb']:.2f}",
        ]
        for row in sorted(result.rows, key=position)
    ]


def main_metrics_of(result: BenchmarkResult) -> list[str]:
    """Return the main metrics that some row has."""
    return [name for name in MAIN[result.kind] if any(row.get(name) is not None for row in result.rows)]


def difference_rows(differences: Sequence[Row]) -> list[list[str]]:
    """Return paired differences as text."""
    return [
        [
            row["cohort"],
            registry.label(row["model"]),
            registry.label(row["reference"]),
            f"{row['difference']:+.3f} ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})",
            f"{row['p']:.3f}",
            f"{row['p_holm']:.3f}",
            str(row["patients"]),
        ]
        for row in differences
    ]


def lost(differences: Sequence[Row]) -> list[str]:
    """Return a sentence per comparison that teacher or student loses, after correction; those with p below 0.05."""
    return [_sentence(row) for row in differences if row["p_holm"] < SIGNIFICANT and row["difference"] < 0]


def won(differences: Sequence[Row]) -> list[str]:
    """Return a sentence per comparison that teacher or student wins, after correction; those with p below 0.05."""
    return [_sentence(row) for row in differences if row["p_holm"] < SIGNIFICANT and row["difference"] > 0]


def markdown(result: BenchmarkResult) -> str:
    """Return the tables as Markdown, what is lost first."""
    budget = ", ".join(f"{name}: {value}" for name, value in result.budget.items() if name != "folds")
    lines = [f"Benchmark of {result.task}; {budget}.", ""]
    for title, sentences in (("Lost", lost(result.differences)), ("Won", won(result.differences))):
        lines += [f"{title} after Holm's correction over {len(result.differences)} comparisons:", ""]
        lines += [*(f"- {sentence}" for sentence in sentences or ["none"]), ""]
    lines += [*_table(table_columns(result), table_rows(result)), ""]
    for group, ranks in result.ranks.items():
        shown = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(ranks.models, ranks.mean_ranks, strict=True))
        lines += [f"Mean ranks, {GROUPS[group]}: {shown}. {ranks.verdict()}", ""]
    lines += [*_table(DIFFERENCE_COLUMNS, difference_rows(result.differences)), ""]
    if result.ideas:
        lines += ["With the published idea, less without it:", ""]
        lines += [*_table(DIFFERENCE_COLUMNS, difference_rows(result.ideas)), ""]
    return "\n".join([*lines, *(f"- left out: {reason}" for reason in result.left_out)]).strip() + "\n"


def draw_ranks(ranks: RankComparison, path: Path) -> None:
    """Draw a critical-difference diagram: models on an axis of mean ranks, bars over those that do not differ."""
    count = len(ranks.models)
    left = (count + 1) // 2
    with drawing(path, 6.4, 1.1 + 0.22 * (left + len(ranks.groups))) as figure:
        axes = figure.subplots()
        depth = len(ranks.groups) + 1
        axes.plot([1, count], [0, 0], color=INK, linewidth=1)
        for tick in range(1, count + 1):
            axes.plot([tick, tick], [0, 0.15], color=INK, linewidth=1)
            axes.annotate(str(tick), (tick, 0.3), ha="center")
        for i, (name, rank) in enumerate(zip(ranks.models, ranks.mean_ranks, strict=True)):
            on_left = i < left
            row = -(depth + (i if on_left else count - 1 - i))
            end = 1 - 0.05 * count if on_left else count + 0.05 * count
            axes.plot([rank, rank, end], [0, row, row], color=FAINT, linewidth=1)
            axes.annotate(f"{name} {rank:.2f}", (end, row), ha="right" if on_left else "left", va="center")
        position = dict(zip(ranks.models, ranks.mean_ranks, strict=True))
        for i, group in enumerate(ranks.groups):
            axes.plot([position[group[0]], position[group[-1]]], [-0.7 * (i + 1)] * 2, color=LOW, linewidth=3)
        if ranks.critical_difference is not None:
            axes.plot([1, 1 + ranks.critical_difference], [1.4, 1.4], color=LOW, linewidth=2)
            axes.annotate(f"critical difference {ranks.critical_difference:.2f}", (1, 1.7))
        axes.set_xlim(1 - 0.9 * count, count + 0.9 * count)
        axes.set_axis_off()


def _interval(row: Mapping[str, Any], metric: str) -> str:
    if row.get(metric) is None:
        return ""
    return f"{row[metric]:.3f} ({row[f'{metric}_low']:.3f} to {row[f'{metric}_high']:.3f})"


def _sentence(row: Row) -> str:
    ends = f"{row['difference']:+.3f}, {row['ci_low']:+.3f} to {row['ci_high']:+.3f}"
    pair = f"{registry.label(row['model'])} against {registry.label(row['reference'])}"
    return f"{row['cohort']}: {pair} {ends}; corrected p {row['p_holm']:.3f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows)]


def _inline(path: Path) -> str:
    text = path.read_text()
    return text[text.index("<svg") :]


def _write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
