"""From the predictions of all models of a task to numbers, tables, figures, cards and one page."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dml.baselines.linear.regression import make_regression
from dml.config import params as config
from dml.core.files import write_json, write_parquet
from dml.core.model_name import ModelName
from dml.core.types import CLINICAL
from dml.evaluation.horizons import select_horizons
from dml.evaluation.results import Results, read_results
from dml.evaluation.scorer import Scorer, comparison_pairs
from dml.evaluation.subgroup_rules import patients_in_subgroup
from dml.evaluation.subgroups import make_groups, score_subgroups
from dml.report.context import ReportContext, ReportData
from dml.report.details import describe
from dml.report.figure_list import draw_all, headline_models
from dml.report.patient_flow import describe_patients
from dml.report.render import write_cards, write_page, write_tables
from dml.teachability.student_share import SHARED_MODELS, share_closed
from dml.teachability.teacher_agreement import TEACHER, agree_with_teacher

FOLLOWERS = (TEACHER, *SHARED_MODELS[:2], "linear_slide", "abmil")
"""Models whose predictions are compared with the teacher's."""
NOT_LABELS = ("patient_id", "site", "survival_source", "event")
NOT_NUMBERS = ("survival_days", "event", *CLINICAL)


def evaluate(
    models: Path | Sequence[Path],
    patients: pd.DataFrame,
    settings: config.Evaluation,
    seed: int,
    out: Path,
    context: ReportContext | None = None,
    names: Collection[str] | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Evaluate every model of a task on its test patients and write the report.

    Parameters
    ----------
    models : Path or sequence of Path
        ``models/<cohort>/<task>``, holding ``<model>/fold-<k>/predictions.parquet``; or several such folders.
    patients : DataFrame
        The cohort's patients.parquet, for subgroups and clinical columns.
    settings : config.Evaluation
        Resamples, confidence, horizons, subgroups.
    seed : int
        Of the bootstrap.
    out : Path
        ``reports/<cohort>/<task>``: receives metrics.json, comparisons.json, details.json, predictions.parquet,
        table.md, figures/*.svg, cards/<model>.md and report.html.
    context : ReportContext, optional
        Cohort, checks, probes and ablation for the page; the cohort is named after the folder above `out` by default.
    names : collection of str, optional
        Registry keys of the models to evaluate; by default all that have predictions.

    Returns
    -------
    dict
        The content of metrics.json: ``{model: {metric: {"value", "ci_low", "ci_high", "folds"}}}``.

    Raises
    ------
    InputError
        If predictions are missing, not valid, or contradict each other, or a subgroup names an unknown column.
    """
    results = read_results(*([models] if isinstance(models, Path) else models), names=names)
    data = compute_report(results, patients, settings, seed, out / "figures", context or ReportContext(out.parent.name))
    for name, content in (("metrics", data.metrics), ("comparisons", data.compared), ("details", data.details)):
        write_json(out / f"{name}.json", content)
    write_all_predictions(out / "predictions.parquet", results)
    write_tables(data, out / "table.md")
    write_cards(data, out / "cards")
    write_page(data, out / "report.html")
    return dict(data.metrics)


def compute_report(
    results: Results,
    patients: pd.DataFrame,
    settings: config.Evaluation,
    seed: int,
    figures: Path,
    context: ReportContext,
) -> ReportData:
    """Compute all numbers of a report and draw its figures."""
    horizons = select_horizons(results, settings.years) if results.kind == "survival" else None
    scorer = Scorer.of(results, horizons, patients, settings, seed)
    metrics, compared = scorer.score_models(), scorer.compare(comparison_pairs(results.models))
    details = describe(results, horizons, scorer.omissions, patients, settings)
    labels = label_columns(patients)
    groups = list(make_groups(results, patients, labels))
    leading = [m.name for m in headline_models(results, metrics) if not ModelName.parse(m.name).recalibrated]
    details["subgroups"] = score_subgroups(results, scorer.weights, groups, leading, settings)
    details["patients_tested"] = describe_patients(results, patients, labels, number_columns(patients))
    if context.teachability is not None:
        inside = {name: patients_in_subgroup(patients, rule) for name, rule in settings.subgroups.items()}
        trained = {name: results.models[name].rows for name in SHARED_MODELS if name in results.models}
        details["teachability"] = share_closed(context.teachability, trained, inside)
        followers = {name: results.models[name].rows for name in FOLLOWERS if name in results.models}
        regression = make_regression(results.task, {results.task: results.classes}, settings.years)
        details["teacher_agreement"] = agree_with_teacher(followers, regression, settings, seed)
    drawn = draw_all(results, metrics, horizons, details["subgroups"], context, figures)
    subgroups = tuple(settings.subgroups)
    return ReportData(context, results.task, results.kind, metrics, compared, details, drawn, subgroups)


def label_columns(patients: pd.DataFrame) -> list[str]:
    """Names of the text columns of patients.parquet that are labels."""
    return [name for name in patients.columns if name not in NOT_LABELS and patients[name].dtype == object]


def number_columns(patients: pd.DataFrame) -> list[str]:
    """Names of the columns of patients.parquet that are numeric labels."""
    return [name for name in patients.columns if name not in NOT_NUMBERS and patients[name].dtype == float]


def write_all_predictions(path: Path, results: Results) -> None:
    """Write the test rows of all models into one file, long form."""
    rows = pd.concat([model.rows for model in results.models.values()], ignore_index=True)
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    write_parquet(path, table, {"task": results.task, "kind": results.kind, "classes": list(results.classes)})
