"""What training cost: measured in the run of every fold, summed over the folds of every model."""

import resource
import sys
import time
from collections import defaultdict
from typing import Any

from dml.evaluation.results import sort_models
from dml.tracking import runs, store

WALL, CPU, MEMORY = "system/wall_seconds", "system/cpu_seconds", "system/peak_memory_megabytes"
"""Names of metrics, as MLflow's own system metrics begin."""
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the operating system counts the resident set."""
Row = dict[str, Any]


class ResourceUsage:
    """Time and memory since its creation, processes that were started and have ended included."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()

    def metrics(self) -> dict[str, float]:
        """Return seconds and MiB under the names of metrics; peaks are of the largest process."""
        usage = {
            WALL: time.monotonic() - self._wall,
            CPU: _cpu_seconds() - self._cpu,
            MEMORY: max(u.ru_maxrss for u in _usages()) * _RSS_UNIT / 2**20,
        }
        return usage | _gpu()


def _usages() -> tuple[resource.struct_rusage, ...]:
    return resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)


def _cpu_seconds() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in _usages())


def _gpu() -> dict[str, float]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"system/gpu_peak_memory_megabytes": torch.cuda.max_memory_allocated() / 2**20}


def cost_rows(cohort: str, task: str) -> list[Row]:
    """Sum the last finished run of every fold of every model of a task.

    Returns
    -------
    list of dict
        One row a model: model; folds; seconds and cpu_seconds, summed over folds (a fold with its predictions, a
        linear baseline with its inner folds); peak_megabytes, of the largest process of any fold (the students of a
        fold share one).

    Raises
    ------
    TrackingError
        If the store cannot be opened.
    """
    client = store.connect(must_exist=True)
    experiment = store.find_experiment(client, f"{cohort}-{task}")
    if experiment is None:
        return []
    models: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for run in runs.search(client, experiment, "tags.level = 'fold' and attributes.status = 'FINISHED'"):
        models[run.data.tags["model"]][run.data.tags["fold"]] = run.data.metrics  # oldest first: the last one stays
    return [_row(model, list(models[model].values())) for model in sort_models(models)]


def _row(model: str, folds: list[dict[str, float]]) -> Row:
    return {
        "model": model,
        "folds": len(folds),
        "seconds": round(sum(metrics.get(WALL, 0.0) for metrics in folds), 1),
        "cpu_seconds": round(sum(metrics.get(CPU, 0.0) for metrics in folds), 1),
        "peak_megabytes": round(max(metrics.get(MEMORY, 0.0) for metrics in folds)),
    }
