"""Runs of the tracking store: the parent run of a model; parameters, inputs and metrics of a run; its end."""

import contextlib
import json
import logging
import math
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dml.config.params import Params
from dml.core.files import only_writer
from dml.tracking import lineage, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_BATCH = 1000
"""Metric values that MLflow takes in one call."""
_NOT_IN_A_KEY = re.compile(r"[^\w\-. /:]")
"""Characters that MLflow refuses in the name of a metric; those of classes may be any."""
_log = logging.getLogger(__name__)


def parent_run(params: Params, task: str, model: str) -> str:
    """Return the id of the run that the folds of a model share, searched by its key, else created.

    Raises
    ------
    TrackingError
        If the store cannot be opened.
    """
    client = store.connect()
    experiment = store.experiment(client, f"{params.cohort}-{task}")
    key = lineage.group_key(params, task, model)
    with only_writer("runs", folder=store.lock_folder()):
        existing = search(client, experiment, f"tags.group = '{key}' and tags.level = 'model'")
        if existing:
            return str(existing[0].info.run_id)
        name = " ".join(part for part in (model, os.environ.get("DVC_EXP_NAME")) if part)
        tags = {**lineage.tags(params, task, model), "level": "model"}
        run_id = str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)
        log_params_and_inputs(client, run_id, params, lineage.relevant(params, model))
        client.update_run(run_id, status="FINISHED")
    return run_id


def log_params_and_inputs(client: "MlflowClient", run_id: str, params: Params, sections: Mapping[str, Any]) -> None:
    """Log parameters and, as dataset inputs, the DVC hashes of the cohort's stores."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    values = lineage.flat(sections)
    client.log_batch(run_id, params=[Param(name, value) for name, value in sorted(values.items())])
    context = [InputTag("mlflow.data.context", "input")]
    inputs = [
        DatasetInput(Dataset(path, value[:36], "dvc", json.dumps({"path": path})), context)
        for path, value in lineage.data_hashes(params.cohort, pretrained="pretraining" in sections).items()
    ]
    if inputs:
        client.log_inputs(run_id, inputs)


def log_metrics(client: "MlflowClient", run_id: str, values: Mapping[str, float]) -> None:
    """Log single numbers."""
    log_points(client, run_id, [(name, value, 0) for name, value in sorted(values.items())])


def log_points(client: "MlflowClient", run_id: str, points: Iterable[tuple[str, float, int]]) -> None:
    """Log (name, value, step) triples in as few calls as can be; values that are not finite are left out."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(metric_key(name), float(v), now, step) for name, v, step in points if math.isfinite(v)]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def metric_key(name: str) -> str:
    """Return the name of a metric as MLflow takes it: other characters become their code point in hexadecimal.

    Examples
    --------
    >>> metric_key("recall_IDH+")
    'recall_IDH_2b_'
    """
    return _NOT_IN_A_KEY.sub(lambda character: f"_{ord(character[0]):x}_", name)


def fail_orphaned_runs(client: "MlflowClient", experiment: str, key: str) -> None:
    """Mark runs as failed whose process is gone: the same fold's, and any of this machine."""
    for run in search(client, experiment, "tags.level = 'fold' and attributes.status = 'RUNNING'"):
        tags = run.data.tags
        if tags.get("fold_key") == key or (tags.get("host") == socket.gethostname() and not _alive(tags.get("pid"))):
            client.set_tag(run.info.run_id, "ended", "its process was gone at the next start")
            client.set_terminated(run.info.run_id, "FAILED")
            finish_parent_run(client, experiment, tags["mlflow.parentRunId"])


def finish_parent_run(client: "MlflowClient", experiment: str, parent: str) -> None:
    """End the parent run unless one of its folds is running."""
    query = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
    if not search(client, experiment, query):
        client.set_terminated(parent, "FINISHED")


def _alive(pid: str | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists() if Path("/proc").exists() else True


def search(client: "MlflowClient", experiment: str, query: str) -> list["Run"]:
    """Return the runs that match a query, oldest first."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"], page_token=token)
        runs += page
        if not (token := page.token):
            return runs


@contextlib.contextmanager
def warn_if_untracked(what: str) -> Iterator[None]:
    """Turn trouble with the store into a warning: a training that is under way is worth more than its record."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        _log.warning("could not track %s: %s", what, error)
