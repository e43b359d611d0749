"""From the predictions of all models of a task to numbers, tables, figures and one page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dml import config
from dml.evaluation.details import describe, limitations
from dml.evaluation.diagrams import draw_all
from dml.evaluation.flow import Flow
from dml.evaluation.horizons import usable_horizons
from dml.evaluation.page import Contents, write_page
from dml.evaluation.results import Results, read_results
from dml.evaluation.scoring import Scorer, comparisons
from dml.evaluation.tables import comparison_table, main_table
from dml.files import atomic, write_json, write_parquet


def evaluate(
    models: Path,
    patients: pd.DataFrame,
    settings: config.Evaluation,
    seed: int,
    out: Path,
    *,
    cohort: str | None = None,
    flow: Flow | None = None,
    external: bool = False,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Evaluate every model of a task on its test patients and write the report.

    Parameters
    ----------
    models : Path
        ``models/<cohort>/<task>``, holding ``<model>/fold-<k>/predictions.parquet``.
    patients : DataFrame
        The cohort's patients.parquet, for subgroups and clinical columns.
    settings : config.Evaluation
        Resamples, confidence, horizons, subgroups.
    seed : int
        Of the bootstrap.
    out : Path
        ``reports/<cohort>/<task>``: receives metrics.json, comparisons.json, details.json, predictions.parquet,
        table.md, figures/*.svg and report.html.
    cohort : str, optional
        Name in the page's title; the name of the folder above `out` by default.
    flow : Flow, optional
        Counts of patients for the page.
    external : bool
        Whether the models were trained on another cohort (limitations are then worded so).

    Returns
    -------
    dict
        The content of metrics.json: ``{model: {metric: {"value", "ci_low", "ci_high", "folds"}}}``.

    Raises
    ------
    InputError
        If predictions are missing, not valid, or contradict each other, or a subgroup names an unknown column.
    """
    results = read_results(models)
    horizons = usable_horizons(results, settings.years) if results.kind == "survival" else None
    scorer = Scorer.of(results, horizons, patients, settings, seed)
    metrics = scorer.metrics()
    compared = scorer.compare(comparisons(results.models))
    details = describe(results, horizons, scorer.omissions, patients, settings)
    write_json(out / "metrics.json", metrics)
    write_json(out / "comparisons.json", compared)
    write_json(out / "details.json", details)
    write_together(out / "predictions.parquet", results)
    with atomic(out / "table.md") as temporary:
        temporary.write_text(markdown(results, metrics, compared))
    contents = Contents(
        cohort=cohort or out.parent.name,
        task=results.task,
        kind=results.kind,
        metrics=metrics,
        compared=compared,
        details=details,
        diagrams=draw_all(results, metrics, horizons, out / "figures"),
        subgroups=list(settings.subgroups),
        limitations=limitations(results, scorer.omissions, horizons, external),
        flow=flow,
    )
    write_page(contents, out / "report.html")
    return metrics


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
