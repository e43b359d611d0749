"""From the predictions of all models of a task to numbers, tables, figures, cards and one page."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dml.config import params as config
from dml.core.files import atomic, write_json, write_parquet
from dml.core.model_name import ModelName
from dml.evaluation.horizons import usable_horizons
from dml.evaluation.results import Results, read_results
from dml.evaluation.scoring import Scorer, comparison_pairs
from dml.evaluation.subgroups import groups_of, subgroup_results
from dml.report.characteristics import characteristics
from dml.report.contents import Contents
from dml.report.context import About
from dml.report.details import describe, limitations
from dml.report.figure_list import draw_all, headline
from dml.report.html import write_page
from dml.report.model_card import write_cards
from dml.report.tables import comparison_table, main_table

NOT_LABELS = ("patient_id", "site", "survival_source", "event")


def evaluate(
    models: Path | Sequence[Path],
    patients: pd.DataFrame,
    settings: config.Evaluation,
    seed: int,
    out: Path,
    about: About | None = None,
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
    about : About, optional
        What the page says besides; the cohort is named after the folder above `out` by default.
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
    folders = [models] if isinstance(models, Path) else models
    results = read_results(*folders, names=names)
    contents = assess(results, patients, settings, seed, out / "figures", about or About(out.parent.name))
    write_json(out / "metrics.json", contents.metrics)
    write_json(out / "comparisons.json", contents.compared)
    write_json(out / "details.json", contents.details)
    write_together(out / "predictions.parquet", results)
    with atomic(out / "table.md") as temporary:
        temporary.write_text(markdown(results, contents.metrics, contents.compared))
    write_cards(contents, out / "cards")
    write_page(contents, out / "report.html")
    return dict(contents.metrics)


def assess(
    results: Results, patients: pd.DataFrame, settings: config.Evaluation, seed: int, figures: Path, about: About
) -> Contents:
    """Compute all numbers of a report and draw its figures."""
    horizons = usable_horizons(results, settings.years) if results.kind == "survival" else None
    scorer = Scorer.of(results, horizons, patients, settings, seed)
    metrics, compared = scorer.metrics(), scorer.compare(comparison_pairs(results.models))
    details = describe(results, horizons, scorer.omissions, patients, settings)
    groups = list(groups_of(results, patients, labels_of(patients)))
    leading = [model.name for model in headline(results, metrics) if not ModelName.parse(model.name).recalibrated]
    details["subgroups"] = subgroup_results(results, scorer.weights, groups, leading, settings)
    details["patients_tested"] = characteristics(results, patients, labels_of(patients))
    return Contents(
        about=about,
        task=results.task,
        kind=results.kind,
        metrics=metrics,
        compared=compared,
        details=details,
        diagrams=draw_all(results, metrics, horizons, figures, details["subgroups"], about),
        subgroups=list(settings.subgroups),
        limitations=limitations(results, scorer.omissions, horizons, about),
    )


def labels_of(patients: pd.DataFrame) -> list[str]:
    """Names of the text columns of patients.parquet that are labels."""
    return [name for name in patients.columns if name not in NOT_LABELS and patients[name].dtype == object]


def write_together(path: Path, results: Results) -> None:
    """Write the test rows of all models into one file, long form."""
    rows = pd.concat([model.rows for model in results.models.values()], ignore_index=True)
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    write_parquet(path, table, {"task": results.task, "kind": results.kind, "classes": list(results.classes)})


def markdown(results: Results, metrics: Mapping[str, Any], compared: Mapping[str, Any]) -> str:
    """Return the result tables as Markdown."""
    patients = f"{len(results.patients)} test patients in {len(results.folds)} folds"
    return "\n".join(
        [
            f"# {results.task}: {patients}, patient bootstrap intervals\n",
            main_table(metrics, results.kind).markdown(),
            "## Paired differences\n",
            comparison_table(compared).markdown(),
        ]
    )
