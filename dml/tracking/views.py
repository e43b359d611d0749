"""Prepared views: which columns and charts MLflow's pages show of an experiment before anybody has chosen any.

MLflow keeps a view that somebody shares as JSON in a tag of the experiment, and an address that names the tag opens it;
these are written the same way. Without one its pages list names and durations, and draw a chart for every metric.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG, MODELS, STUDY = "mlflow.sharedViewState.", "models", "study-"
"""Beginning of such a tag, and what follows: of the models of a task, or of the trials of a study and its name."""
OPENED = "compareRunsMode=CHART&workflowType=machine_learning"
"""Of an address: charts beside the rows; the columns are one click away."""
SECTION = "main"
TALL, SMALL = 460, 300
"""Heights of charts in pixels."""


def prepare_models(client: "MlflowClient", experiment: str, metrics: Sequence[str]) -> None:
    """Show one row a model, the best first; its main metrics are the columns, and bars among the charts.

    Parameters
    ----------
    metrics : sequence of str
        Main metrics, of which the first sorts: more of it is better.
    """
    charts = [_chart("BAR", f"bar-{name}", metricKey=name) for name in metrics]
    rows = _rows("tags.level = 'model'", metrics[0], ascending=False)
    _write(client, experiment, MODELS, {**rows, **_shown([_metric(name) for name in metrics], charts, 2, SMALL)})


def prepare_trials(
    client: "MlflowClient", experiment: str, study: str, objective: str, tuned: Sequence[str], minimised: bool
) -> None:
    """Show one row a trial, the best first; the tuned values are columns and parallel coordinates."""
    all_of_it = {"selectedParams": list(tuned), "selectedMetrics": [objective], "showAllRuns": True}
    charts = [_chart("PARALLEL", "parallel", **all_of_it)]
    columns = [_metric(objective), *(f"params.`{name}`" for name in tuned)]
    rows = _rows(f"tags.level = 'trial' and tags.study = '{study}'", objective, ascending=minimised)
    _write(client, experiment, f"{STUDY}{study}", {**rows, **_shown(columns, charts, 1, TALL)})


def pages(client: "MlflowClient") -> dict[str, str]:
    """Return the pages of all views: by the name of the experiment for its models, by that of the study for trials."""
    found: dict[str, str] = {}
    for experiment in sorted(client.search_experiments(), key=lambda experiment: experiment.name):
        own = {tag.removeprefix(TAG) for tag in experiment.tags if tag.startswith(TAG)}
        for view in sorted(own):
            if view == MODELS or view.startswith(STUDY):  # others are of users
                name = experiment.name if view == MODELS else view.removeprefix(STUDY)
                found[name] = f"#/experiments/{experiment.experiment_id}/runs?viewStateShareKey={view}&{OPENED}"
    return found


def _rows(query: str, sorted_by: str, ascending: bool) -> dict[str, Any]:
    return {
        "searchFilter": query,
        "orderByKey": _metric(sorted_by),
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "runsHiddenMode": "SHOW_ALL",
    }


def _shown(columns: Sequence[str], charts: Iterable[Mapping[str, Any]], across: int, height: int) -> dict[str, Any]:
    section = {"uuid": SECTION, "name": "Main", "display": True, "isReordered": False}
    return {
        "selectedColumns": list(columns),
        "compareRunCharts": list(charts),
        "compareRunSections": [{**section, "columns": across, "cardHeight": height}],
    }


def _chart(kind: str, name: str, **content: Any) -> dict[str, Any]:
    placed = {"type": kind, "uuid": name, "metricSectionId": SECTION}
    return {**placed, "runsCountToCompare": 100, "deleted": False, "isGenerated": False, **content}


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _write(client: "MlflowClient", experiment: str, name: str, view: Mapping[str, Any]) -> None:
    client.set_experiment_tag(experiment, f"{TAG}{name}", json.dumps(view, sort_keys=True))
