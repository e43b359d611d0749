"""Runs in MLflow: one experiment per cohort and task, one parent run per model, one nested run per fold.

Each fold is a process of its own (a DVC stage); folds find their common parent by a key made of the model's name, its
parameters and the hashes of its input data. Tracking never decides a result: if the store cannot be reached that is
said before training starts, and trouble after that is a warning.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dml.config.params import Params
from dml.core.files import digest
from dml.tracking import lineage, runs, store
from dml.tracking.resources import Resources
from dml.tracking.run_reports import log_report
from dml.tracking.runs import parent_run

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

__all__ = ["FoldRun", "fold_run", "log_report", "parent_run"]
WEIGHTS = ".safetensors"
_log = logging.getLogger(__name__)


class FoldRun:
    """The run of one fold while it trains; what it logs is written in batches and never raises."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client, self.run_id = client, run_id

    def log_epochs(self, history: "pd.DataFrame") -> None:
        """Log the training history: column ``epoch`` (the step), one column per metric, a row per epoch.

        The keys are ``training/<column>``, so that the pages show the curves apart from the test metrics. With several
        members (column ``member``) that is the mean of those still training, beside ``member_<i>/<column>``. The mark
        of the best epoch (column ``best``) is no curve and is left to history.csv.
        """
        history = history.drop(columns="best", errors="ignore")
        mean = history.drop(columns="member", errors="ignore").groupby("epoch", as_index=False).mean()
        points = _points(mean, "training/")
        members = history.groupby("member") if "member" in history.columns and history["member"].nunique() > 1 else ()
        for member, rows in members:
            points += _points(rows.drop(columns="member"), f"member_{member}/")
        with _tolerant("the training history"):
            runs.log_points(self._client, self.run_id, points)

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log single numbers; the ones that are not finite are left out."""
        with _tolerant("metrics"):
            runs.log_points(self._client, self.run_id, [(name, value, step) for name, value in values.items()])

    def log_artifacts(self, path: Path, folder: str | None = None) -> None:
        """Attach a file, or the files of a folder but not its weights (DVC and the registry keep those)."""
        files = [file for file in sorted(path.iterdir()) if file.suffix != WEIGHTS] if path.is_dir() else [path]
        with _tolerant(f"artifact {path}"):
            for file in files:
                self._client.log_artifact(self.run_id, str(file), folder)

    def tags(self, **tags: object) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        with _tolerant("tags"):
            self._client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])


def _points(history: "pd.DataFrame", prefix: str) -> list[tuple[str, float, int]]:
    names = history.columns.drop("epoch")
    steps = history["epoch"].astype(int)
    return [(f"{prefix}{n}", float(v), int(s)) for n in names for v, s in zip(history[n], steps, strict=True)]


@contextlib.contextmanager
def fold_run(
    params: Params, task: str, model: str, fold: int, sections: Mapping[str, Any] | None = None
) -> Iterator[FoldRun]:
    """Track one fold of one model, nested in the run of the model.

    Parameters
    ----------
    params : Params
        The whole of params.yaml; decides, with the input data, which parent run the fold joins.
    task : str
        ``survival`` or the name of a label.
    model : str
        teacher, student, student_undistilled or a baseline.
    fold : int
        Outer test fold.
    sections : mapping, optional
        Parameters to log; by default those that `lineage.relevant` names for the model.

    Raises
    ------
    TrackingError
        Before the body runs, if the store cannot be opened.
    """
    client = store.connect()
    parent = parent_run(params, task, model)
    experiment = str(client.get_run(parent).info.experiment_id)
    key = digest(lineage.group_key(params, task, model), fold)
    runs.bury(client, experiment, key)
    tags = {**lineage.tags(params, task, model), "level": "fold", "fold": str(fold), "fold_key": key}
    run = client.create_run(experiment, run_name=f"{model}-fold-{fold}", tags={**tags, "mlflow.parentRunId": parent})
    run_id = str(run.info.run_id)
    client.update_run(parent, status="RUNNING")
    runs.describe(client, run_id, params, sections or lineage.relevant(params, model))
    resources, status = Resources(), "KILLED"
    try:
        yield FoldRun(client, run_id)
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        with _tolerant("the end of the run"):
            runs.log_metrics(client, run_id, resources.spent())
            client.set_terminated(run_id, status)
            runs.settle(client, experiment, parent)


@contextlib.contextmanager
def _tolerant(what: str) -> Iterator[None]:
    """Turn trouble with the store into a warning: a training that is under way is worth more than its record."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        _log.warning("could not track %s: %s", what, error)
