"""Evaluation and probes of a task on the runs of its models: one row a model in MLflow, with the same keys for all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dml.config.params import Params
from dml.core.files import digest, read_json
from dml.evaluation.metric_sets import main_metrics
from dml.evaluation.metrics.registry import metric_label
from dml.models.registry import description
from dml.report.number_format import format_estimate
from dml.tracking import lineage, runs, store, ui_pages

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGES = ("metrics.json", "table.md", "report.html")
_FIGURES = (".png", ".svg")
_KEYS = {"{}": "value", "range/{}_low": "ci_low", "range/{}_high": "ci_high"}
"""Names in MLflow, whose pages make of what is before a stroke a section that can be folded away."""
Metrics = Mapping[str, Mapping[str, Any]]


def log_report(params: Params, task: str, report_folder: Path) -> dict[str, str]:
    """Put the evaluation of a task on the runs of its models: metrics with intervals, figures, the page.

    Every model gets the same keys (``c_index``, and in a section of their own ``range/c_index_low``,
    ``range/c_index_high``); its fold runs get the plain metric of their fold. The same report is not logged twice.

    Parameters
    ----------
    report_folder : Path
        ``reports/<cohort>/<task>``, with metrics.json, and figures/ and report.html where there are.

    Returns
    -------
    dict
        Model to id of its parent run.

    Raises
    ------
    InputError
        If metrics.json is missing or unreadable.
    TrackingError
        If the store cannot be opened.
    """
    report = read_json(report_folder / "metrics.json")
    pages = [path for name in _PAGES if (path := report_folder / name).exists()]
    client, ids = store.connect(), {}
    for model, metrics in sorted(report.items()):
        run_id = ids[model] = runs.parent_run(lineage.as_trained(params, task, model), task, model)
        run = client.get_run(run_id)
        stamp = digest(metrics, _note(model, metrics), _folds_of(client, run), [path.read_text() for path in pages])
        if run.data.tags.get("report") == stamp:
            continue
        runs.log_metrics(client, run_id, _with_intervals(metrics))
        _log_folds(client, run, metrics)
        for path in [*pages, *figures_of(report_folder / "figures", model, set(report))]:
            client.log_artifact(run_id, str(path), "report")
        client.set_tag(run_id, "mlflow.note.content", _note(model, metrics))
        client.set_tag(run_id, "report", stamp)
    main = main_metrics({name for metrics in report.values() for name in metrics})
    if main:
        name = f"{params.cohort}-{task}"
        ui_pages.save_page(client, store.experiment(client, name), name, "tags.level = 'model'", main[0])
    return ids


def figures_of(folder: Path, model: str, models: set[str]) -> list[Path]:
    """Find the figures of a report that show a model: those whose name contains no other model's name."""

    def subject(path: Path) -> str | None:
        named = [name for name in models if name in path.stem]
        return max(named, key=len) if named else None

    figures = sorted(path for path in folder.glob("*") if path.suffix in _FIGURES)
    return [path for path in figures if subject(path) in (None, model)]


def _note(model: str, metrics: Metrics) -> str:
    """Describe a run: the model's inputs, and its main metrics."""
    names = [name for name in main_metrics(metrics) if metrics[name].get("value") is not None]
    rows = [f"| {metric_label(name)} | {format_estimate(metrics[name])} |" for name in names]
    table = ["| metric | value (interval) |", "| --- | --- |", *rows]
    return "\n".join([f"{description(model)}. Figures and the whole page: Artifacts, report/report.html.", "", *table])


def _with_intervals(metrics: Metrics) -> dict[str, float]:
    return {
        key.format(name): content[part]
        for name, content in metrics.items()
        for key, part in _KEYS.items()
        if content.get(part) is not None
    }


def _folds_of(client: "MlflowClient", parent: "Run") -> dict[int, str]:
    """Newest finished run of each fold of a model."""
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' and attributes.status = 'FINISHED'"
    folds = runs.search(client, str(parent.info.experiment_id), query)
    return {int(run.data.tags["fold"]): str(run.info.run_id) for run in folds}


def _log_folds(client: "MlflowClient", parent: "Run", metrics: Metrics) -> None:
    for fold, run_id in _folds_of(client, parent).items():
        per_metric = {name: content.get("folds") or () for name, content in metrics.items()}
        values = {name: folds[fold] for name, folds in per_metric.items() if fold < len(folds)}
        runs.log_metrics(client, run_id, {name: value for name, value in values.items() if value is not None})


def log_probes(params: Params, task: str, path: Path) -> None:
    """Log the numbers of probes.json as ``probe/<name>`` and the file itself; the same file is not logged twice.

    Raises
    ------
    InputError
        If the file is missing or unreadable.
    TrackingError
        If the store cannot be opened.
    """
    content = read_json(path)
    client, stamp = store.connect(), digest(content)
    for model in content["modality_exchange"]:
        run_id = runs.parent_run(params, task, model)
        if client.get_run(run_id).data.tags.get("probes") != stamp:
            runs.log_metrics(client, run_id, probe_metrics(content, model))
            client.log_artifact(run_id, str(path), "report")
            client.set_tag(run_id, "probes", stamp)


def log_teachability(params: Params, task: str, report_folder: Path) -> None:
    """Log the gap, its teachable part and the shares that models close as ``teachability/<name>`` on the models' runs.

    Nothing is logged of a cohort that was left out, nor twice.

    Raises
    ------
    InputError
        If summary.json or details.json is missing or unreadable.
    TrackingError
        If the store cannot be opened.
    """
    summary = read_json(report_folder / "teachability" / "summary.json")
    shares = read_json(report_folder / "details.json").get("teachability", [])
    client, stamp = store.connect(), digest(summary, shares)
    for model in dict.fromkeys(row["model"] for row in shares):
        run_id = runs.parent_run(lineage.as_trained(params, task, model), task, model)
        if client.get_run(run_id).data.tags.get("teachability") != stamp:
            runs.log_metrics(client, run_id, teachability_metrics(summary, shares, model))
            client.set_tag(run_id, "teachability", stamp)


def teachability_metrics(
    summary: Mapping[str, Any], shares: Sequence[Mapping[str, Any]], model: str
) -> dict[str, float]:
    """Return gap, teachable part, gene risk predicted from the slide and the model's shares, by protocol."""
    values: dict[str, Any] = {}
    for protocol, part in summary.get("protocols", {}).items():
        gaps = part.get("gaps", {}).get("all", {})
        values |= {f"{protocol}_{name}": gaps.get(name, {}).get("difference") for name in ("gap", "teachable")}
        risks = part.get("associations", {}).get("risk", {"targets": []})["targets"]
        values |= {f"{protocol}_r_{risk['name'].replace(' ', '_')}": risk["r"]["value"] for risk in risks}
    for row in shares:
        if row["model"] == model and row["group"] == "all":
            names = ("teachable_share", "whole_share")
            values |= {f"{row['protocol']}_{name}_closed": row[name]["value"] for name in names}
    return {f"teachability/{name}": float(value) for name, value in values.items() if value is not None}


def probe_metrics(content: Mapping[str, Any], model: str) -> dict[str, float]:
    """Return the probes of one model that are single numbers, as ``probe/<name>``."""
    values: dict[str, Any] = {}
    for modality, results in content["modality_exchange"].get(model, {}).items():
        values[f"exchanged_{modality}"] = (results["exchanged"] or {}).get("value")
    if model == "teacher":
        values |= {f"hidden_{round(100 * p['share'])}": p.get("value") for p in content["missing_modality"]["teacher"]}
    site = content["site"].get("sources", {}).get(model, {})
    values["site_auc"] = (site.get("auc") or {}).get("value")
    subspaces = content["subspaces"][model]
    values["distance_correlation"] = subspaces["distance_correlation"]["value"]
    for target, sources in subspaces["genes"].items():
        values |= {f"{target}_genes_from_{s}": (sources[s] or {}).get("value") for s in ("tumor", "tme")}
    values["training_sd"] = content["single_members"][model]["sd"]
    faithful = (content.get("faithfulness") or {}).get(model, {})
    for order in ("contribution", "attention", "random"):
        values[f"faithfulness_{order}"] = (faithful.get(order, {}).get("faithfulness") or {}).get("value")
    permuted = content["permutation_test"]
    values["permutation_test"] = permuted["value"] if permuted and model == "teacher" else None
    return {f"probe/{name}": float(value) for name, value in values.items() if value is not None}
