"""What training cost: the last finished run of every fold of every model of a task, added up."""

from collections import defaultdict
from typing import Any

from dml.evaluation.results import ordered
from dml.tracking import runs, store

WALL, CPU, MEMORY = "system/wall_seconds", "system/cpu_seconds", "system/peak_memory_megabytes"
Row = dict[str, Any]


def cost_rows(cohort: str, task: str) -> list[Row]:
    """Return one row a model that has runs.

    Returns
    -------
    list of dict
        model; folds; seconds and cpu_seconds, summed over folds (a fold with its predictions, a reference with its
        inner parts); peak_megabytes, of the largest process of any fold (students of a fold share one).
    """
    client = store.connect()
    experiment = client.get_experiment_by_name(f"{cohort}-{task}")
    if experiment is None:
        return []
    query = "tags.level = 'fold' and attributes.status = 'FINISHED'"
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for run in runs.search(client, experiment.experiment_id, query):  # oldest first: the last of a fold stays
        found[run.data.tags["model"]][run.data.tags["fold"]] = run.data.metrics
    return [_row(model, list(found[model].values())) for model in ordered(found)]


def _row(model: str, folds: list[dict[str, float]]) -> Row:
    return {
        "model": model,
        "folds": len(folds),
        "seconds": round(sum(metrics.get(WALL, 0.0) for metrics in folds), 1),
        "cpu_seconds": round(sum(metrics.get(CPU, 0.0) for metrics in folds), 1),
        "peak_megabytes": round(max(metrics.get(MEMORY, 0.0) for metrics in folds)),
    }
